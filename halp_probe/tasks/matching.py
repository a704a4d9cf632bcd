"""Matching of described objects with true ones: one to one, on one image, by how much they overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from halp_probe.tasks.geometry import DenseObject, iou


@dataclass(frozen=True, kw_only=True)
class Match:
    """Pair of a described and a true object that overlap enough."""

    described: DenseObject
    true: DenseObject
    iou: float


def match(described: Sequence[DenseObject], true: Sequence[DenseObject], threshold: float) -> tuple[Match, ...]:
    """Return pairs with an IoU of at least `threshold` (above 0): as many as possible, with the highest sum of IoUs.

    In the order of `described`. Descriptions play no part.
    """
    from scipy.optimize import linear_sum_assignment

    if not described or not true:
        return ()
    overlaps = np.array([[iou(one, other) for other in true] for one in described])
    enough = overlaps >= threshold
    more_than_any_sum = min(overlaps.shape) + 1
    rows, columns = linear_sum_assignment(np.where(enough, more_than_any_sum + overlaps, 0.0), maximize=True)
    return tuple(
        Match(described=described[row], true=true[column], iou=float(overlaps[row, column]))
        for row, column in zip(rows, columns, strict=True)
        if enough[row, column]
    )
