"""Windows and batches: which samples run together. Pure, and the same from one run to the next.

A resumed run must form the batches that the interrupted one would have formed, because a batch's composition shows in
the last bits of its floats. So windows are fixed slices of the run's order, and a sample that is done already keeps its
place in its batch by its stored length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

WINDOW = 256  # samples sorted by length together

_Item = TypeVar("_Item")


def run_order(image_ids: Sequence[str]) -> list[int]:
    """Row numbers with images by first appearance, and the rows of one image together in table order."""
    first_seen: dict[str, int] = {}
    for image_id in image_ids:
        first_seen.setdefault(image_id, len(first_seen))
    return sorted(range(len(image_ids)), key=lambda row: (first_seen[image_ids[row]], row))


def windows(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """Consecutive slices of `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def batches(items: Iterable[_Item], length: Callable[[_Item], int], token_budget: int) -> Iterator[list[_Item]]:
    """Consecutive items whose padded size (count × longest) stays within the budget; one item may exceed it alone."""
    batch: list[_Item] = []
    longest = 0
    for item in items:
        grown = max(longest, length(item))
        if batch and (len(batch) + 1) * grown > token_budget:
            yield batch
            batch, grown = [], length(item)
        batch.append(item)
        longest = grown
    if batch:
        yield batch
