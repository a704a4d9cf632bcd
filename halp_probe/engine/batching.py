"""Windows and batches: which samples run together. Pure, and the same from one run to the next.

A resumed run must form the batches that the interrupted one would have formed, because a batch's composition shows in
the last bits of its floats. So windows are fixed slices of the run's order, and a sample that is done already keeps its
place in its batch by its stored length.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

WINDOW = 256  # samples sorted by length together, and a few more: an image's samples stay together

_CACHED = 8  # a token that is only held in the cache, in a copy for each question, costs an eighth of one computed

_Item = TypeVar("_Item")


class Slot(Protocol):
    """What the size of a batch depends on."""

    @property
    def image_sha256(self) -> str: ...
    @property
    def prefix_tokens(self) -> int: ...  # up to the image's end
    def __len__(self) -> int: ...  # tokens in all


_Slot = TypeVar("_Slot", bound=Slot)


def grouped(items: Iterable[_Item], key: Callable[[_Item], Hashable]) -> list[list[_Item]]:
    """Groups of one key by first appearance, each in the order of the items."""
    groups: dict[Hashable, list[_Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def windows(groups: Iterable[list[_Item]], size: int) -> Iterator[list[list[_Item]]]:
    """Consecutive groups, in windows of `size` items or the few more that the last group has.

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
    """Consecutive slots that fit the budget of padded tokens together, on so many images at most.

    A slot that exceeds the budget stands alone.
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
    """Padded tokens that a batch of these slots asks the decoder to read."""
    load = _Load()
    for slot in slots:
        load = load.with_slot(slot)
    return load.computed(share_prefix)


@dataclass(frozen=True, kw_only=True)
class _Load:
    """What a batch asks of the device."""

    rows: int = 0
    images: int = 0
    last_image: str | None = None
    prefix: int = 0  # tokens of the longest
    suffix: int = 0
    whole: int = 0

    def with_slot(self, slot: Slot) -> _Load:
        return _Load(
            rows=self.rows + 1,
            images=self.images + (slot.image_sha256 != self.last_image),
            last_image=slot.image_sha256,
            prefix=max(self.prefix, slot.prefix_tokens),
            suffix=max(self.suffix, len(slot) - slot.prefix_tokens),
            whole=max(self.whole, len(slot)),
        )

    def computed(self, share_prefix: bool) -> int:
        """Padded tokens that the decoder reads."""
        return self.images * self.prefix + self.rows * self.suffix if share_prefix else self.rows * self.whole

    def fits(self, budget: int, share_prefix: bool) -> bool:
        held = self.rows * self.whole if share_prefix else 0  # copies of the cache
        return self.computed(share_prefix) <= budget and held <= _CACHED * budget
