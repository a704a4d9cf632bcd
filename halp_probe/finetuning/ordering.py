"""Order in which samples of similar length come together, so that little of a batch is padding."""

from __future__ import annotations

import random
from collections.abc import Sequence

_WINDOW = 64  # batches


def by_length(lengths: Sequence[int], batch_size: int, seed: int) -> list[int]:
    """Return the places 0 … N - 1 in an order in which every `batch_size` of them have similar `lengths`.

    A sample moves only within its window of 64 batches, and the batches of a window stand in an order drawn by `seed`.
    """
    order: list[int] = []
    draw = random.Random(seed)
    width = _WINDOW * batch_size
    for start in range(0, len(lengths), width):
        window = sorted(range(start, min(start + width, len(lengths))), key=lambda place: lengths[place])
        batches = [window[first : first + batch_size] for first in range(0, len(window), batch_size)]
        short = [batches.pop()] if len(batches[-1]) < batch_size else []  # stays last, or it would shift the others
        draw.shuffle(batches)
        order += [place for batch in [*batches, *short] for place in batch]
    return order
