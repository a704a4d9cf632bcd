"""Which described object is which true one: at most one each, on one image, by how much they overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from halp_probe.tasks.geometry import DenseObject, iou


@dataclass(frozen=True, kw_only=True)
class Match:
    """A described and a true object that overlap enough."""

    told: DenseObject
    true: DenseObject
    iou: float


def match(told: Sequence[DenseObject], true: Sequence[DenseObject], threshold: float) -> tuple[Match, ...]:
    """Pairs with an IoU of `threshold` (above 0) or more: as many as can be, and of these the highest sum of IoUs.

    In the order of `told`. Descriptions play no part.
    """
    from scipy.optimize import linear_sum_assignment

    if not told or not true:
        return ()
    overlaps = np.array([[iou(one, other) for other in true] for one in told])
    enough = overlaps >= threshold
    more_than_any_sum = min(overlaps.shape) + 1
    rows, columns = linear_sum_assignment(np.where(enough, more_than_any_sum + overlaps, 0.0), maximize=True)
    return tuple(
        Match(told=told[row], true=true[column], iou=float(overlaps[row, column]))
        for row, column in zip(rows, columns, strict=True)
        if enough[row, column]
    )
