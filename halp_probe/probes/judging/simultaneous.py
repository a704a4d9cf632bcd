"""Intervals that hold for many scores at once: by the largest studentised deviation over all of them (max-t).

Legend: B bootstrap draws, L scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import norm

from halp_probe.bootstrap import Estimate
from halp_probe.probes.judging.metrics import MeasuredScore

_LEVEL = 0.95
_ALONE = float(norm.ppf(0.5 + _LEVEL / 2))  # standard deviations of one interval


def widening(scores: Sequence[MeasuredScore]) -> float:
    """Return by what factor the intervals of L scores must be wider to hold all at once in 95 of 100 data sets.

    All scores have the same B draws of images, so what moves them together counts once: 1 for copies of one score.
    Romano & Wolf 2005, "Exact and approximate stepdown methods for multiple hypothesis testing".
    """
    return _factor(np.zeros(0), [_deviations(each.value, each.draws) for each in scores])


def widening_of_differences(scores: Sequence[MeasuredScore]) -> float:
    """Return the same for the differences of all pairs of scores."""
    largest = np.zeros(0)
    for place, one in enumerate(scores):
        pairs = [_deviations(one.value - other.value, one.draws - other.draws) for other in scores[place + 1 :]]
        largest = _largest(largest, pairs)
    return _factor(largest, [])


def widened(score: MeasuredScore, factor: float) -> Estimate:
    """Return the estimate with an interval wider by `factor`."""
    return replace(score, spread=score.spread * factor).estimate


def widened_difference(one: MeasuredScore, other: MeasuredScore, factor: float) -> Estimate:
    """Return the paired difference with an interval wider by `factor`."""
    return replace(one, spread=one.spread * factor).minus(replace(other, spread=other.spread * factor))


def _factor(largest: np.ndarray, deviations: Sequence[np.ndarray]) -> float:
    found = _largest(largest, deviations)
    return max(1.0, float(np.quantile(found, _LEVEL)) / _ALONE) if len(found) else 1.0


def _largest(largest: np.ndarray, deviations: Sequence[np.ndarray]) -> np.ndarray:
    """Return [B] the larger of `largest` [B], empty at first, and of all `deviations` [B]."""
    for each in deviations:
        if len(each):
            largest = np.maximum(largest, each) if len(largest) else each
    return largest


def _deviations(value: float, draws: np.ndarray) -> np.ndarray:
    """Return [B] in standard deviations; empty where there is no spread, 0 where a draw leaves the value undefined."""
    if not np.isfinite(value) or np.isfinite(draws).sum() < 2:
        return np.zeros(0)
    deviation = float(np.nanstd(draws, ddof=1))
    return np.nan_to_num(np.abs(draws - value) / deviation) if deviation > 1e-12 else np.zeros(0)
