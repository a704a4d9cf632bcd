"""Plan windows and batches: which samples run together. Pure, and the same from one run to the next.

A resumed run must form the batches that the interrupted one would have formed, because a batch's composition affects
the last bits of its floats. So windows are fixed slices of the run's order, and a sample that is already done keeps its
place in its batch by its stored length.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

WINDOW = 256  # number of samples sorted by length together; a few more, since an image's samples stay together

CACHED = 8  # a token that is only kept in the cache, with a copy for each question, costs an eighth of one computed

_Item = TypeVar("_Item")


class Slot(Protocol):
    """Sizes of one prompt, on which the size of a batch depends."""

    @property
    def image_sha256(self) -> str:
        """Digest of the images' content."""

    @property
    def prefix_tokens(self) -> int:
        """Number of tokens up to the image's end."""

    def __len__(self) -> int:
        """Return the number of all tokens."""


_Slot = TypeVar("_Slot", bound=Slot)


def group_by(items: Iterable[_Item], key: Callable[[_Item], Hashable]) -> list[list[_Item]]:
    """Group items by key, in order of first appearance; each group keeps the order of the items."""
    groups: dict[Hashable, list[_Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def windows(groups: Iterable[list[_Item]], size: int) -> Iterator[list[list[_Item]]]:
    """Yield windows of consecutive groups, each of `size` items or a few more, since groups stay whole.

    A group of more than `size` items is cut into several.
    """
    window: list[list[_Item]] = []
    for group in groups:
        for start in range(0, len(group), size):
            window.append(group[start : start + size])
            if sum(map(len, window)) >= size:
                yield window
                window = []
    if window:
        yield window


def batches(
    slots: Iterable[_Slot], budget: Callable[[], int], *, share_prefix: bool, images: int | None = None
) -> Iterator[list[_Slot]]:
    """Yield batches of consecutive slots that fit the budget of padded tokens, on at most `images` images.

    A slot that exceeds the budget is a batch of its own.
    """
    batch: list[_Slot] = []
    load = _Load()
    for slot in slots:
        grown = load.with_slot(slot)
        if batch and not (grown.fits(budget(), share_prefix) and (images is None or grown.images <= images)):
            yield batch
            batch, grown = [], _Load().with_slot(slot)
        batch.append(slot)
        load = grown
    if batch:
        yield batch


def computed_tokens(slots: Iterable[Slot], *, share_prefix: bool) -> int:
    """Count the padded tokens that the decoder computes for a batch of these slots."""
    load = _Load()
    for slot in slots:
        load = load.with_slot(slot)
    return load.computed_tokens(share_prefix)


@dataclass(frozen=True, kw_only=True)
class _Load:
    """Load of a batch on the device."""

    rows: int = 0
    images: int = 0
    last_image: str | None = None
    prefix: int = 0  # tokens of the longest prefix
    suffix: int = 0
    whole: int = 0

    def with_slot(self, slot: Slot) -> _Load:
        """Return the load with one more slot."""
        return _Load(
            rows=self.rows + 1,
            images=self.images + (slot.image_sha256 != self.last_image),
            last_image=slot.image_sha256,
            prefix=max(self.prefix, slot.prefix_tokens),
            suffix=max(self.suffix, len(slot) - slot.prefix_tokens),
            whole=max(self.whole, len(slot)),
        )

    def computed_tokens(self, share_prefix: bool) -> int:
        """Return the padded tokens that the decoder computes."""
        return self.images * self.prefix + self.rows * self.suffix if share_prefix else self.rows * self.whole

    def fits(self, budget: int, share_prefix: bool) -> bool:
        """Return whether the load fits the budget."""
        cached = self.rows * self.whole if share_prefix else 0  # copies of the cache
        return self.computed_tokens(share_prefix) <= budget and cached <= CACHED * budget
