"""Movement of each row's vector from A to B, and means over rows with intervals over images. No files.

Legend: N rows, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from halp_probe.bootstrap import Draws, Estimate, image_draws, interval
from halp_probe.distances import relative_distance

DRAWS = Draws(count=1000, seed=0)
_VALUES_AT_ONCE = 4_000_000  # float64 values of a block of rows: 32 MB


@dataclass(frozen=True, kw_only=True)
class RowDistances:
    """Distances between the vectors of A and B in each row, [N] float64.

    `relative_l2` is |b − a| / |a|, nan where only a is zero; `cosine` is nan where a or b is zero. `identical` [N]
    bool marks rows whose difference is exactly zero. There relative_l2 is exactly 0 and cosine exactly 1.
    """

    relative_l2: np.ndarray
    cosine: np.ndarray
    identical: np.ndarray


def row_distances(a: np.ndarray, b: np.ndarray) -> RowDistances:
    """Compute the distances of `a` and `b` [N, D], finite, in float64 and in blocks of rows."""
    relative_l2, cosine = np.empty(len(a)), np.empty(len(a))
    identical = np.empty(len(a), dtype=bool)
    for rows in _blocks(len(a), a.shape[1]):
        x, y = a[rows].astype(np.float64), b[rows].astype(np.float64)
        length_x, length_y = (np.linalg.norm(each, axis=1) for each in (x, y))
        same = (x == y).all(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            relative = np.where(length_x > 0, relative_distance(y, x), np.nan)
            angle = np.clip((x * y).sum(axis=1) / length_x / length_y, -1, 1)
        relative_l2[rows] = np.where(same, 0.0, relative)
        cosine[rows] = np.where((length_x > 0) & (length_y > 0), np.where(same, 1.0, angle), np.nan)
        identical[rows] = same
    return RowDistances(relative_l2=relative_l2, cosine=cosine, identical=identical)


def mean_over_images(
    values: np.ndarray, images: np.ndarray, draws: Draws = DRAWS, *, low: float, high: float = np.inf
) -> Estimate:
    """Return the mean of `values` [N], nan left out, with a 95 % interval from a bootstrap over `images` [N].

    `low` and `high` bound the values, and so the interval.
    """
    known = np.isfinite(values)
    if not known.any():
        return Estimate(value=np.nan, low=np.nan, high=np.nan, note="no row has a value")
    values, images = values[known], images[known]
    if values.min() == values.max():
        mean = float(values[0])  # exactly: a mean of equal numbers may round
        return Estimate(value=mean, low=mean, high=mean)
    found = _estimate(values, images, draws, bounded=False)
    return replace(found, low=float(np.maximum(low, found.low)), high=float(np.minimum(high, found.high)))


def share_over_images(flags: np.ndarray, images: np.ndarray, draws: Draws = DRAWS) -> Estimate:
    """Return the share of rows whose `flags` [N] is true, with a 95 % interval from a bootstrap over `images` [N]."""
    return _estimate(flags.astype(np.float64), images, draws, bounded=True)


def _estimate(values: np.ndarray, images: np.ndarray, draws: Draws, *, bounded: bool) -> Estimate:
    mean, n_images = float(values.mean()), len(np.unique(images))
    if n_images < 2:
        return Estimate(value=mean, low=np.nan, high=np.nan, note="no interval: all rows are of one image")
    drawn = np.concatenate([(weights @ values) / weights.sum(axis=1) for weights in image_draws(images, draws)])
    return interval(mean, drawn, n_images, bounded)


def _blocks(n_rows: int, width: int) -> Iterator[slice]:
    step = max(1, _VALUES_AT_ONCE // max(1, width))
    return (slice(begin, begin + step) for begin in range(0, n_rows, step))
