"""Small arrays to draw: ROC, precision-recall, risk-coverage and reliability.

A curve pools all its rows, so the score must be on one scale: a calibrated risk, or the rows of one fold.

Legend: N rows, U distinct scores, B bootstrap draws, P points of a curve, C bins.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from halp_probe.bootstrap import Draws, image_draws, interval
from halp_probe.probes.judging.measures import CALIBRATION_BINS, MEASURES
from halp_probe.probes.judging.rows import Rows
from halp_probe.probes.judging.tally import Tally, summed_to, tally

MOST_POINTS = 200


@dataclass(frozen=True, kw_only=True)
class Roc:
    """ROC curve: straight lines between the points; label 1 is positive."""

    fpr: np.ndarray  # [P] from 0 to 1
    tpr: np.ndarray  # [P]
    auroc: float  # of all points, before thinning


@dataclass(frozen=True, kw_only=True)
class PrecisionRecall:
    """Precision-recall curve, one point for each threshold.

    `average_precision` is the sum of steps, not the area under straight lines.
    """

    recall: np.ndarray  # [P] increasing
    precision: np.ndarray  # [P]
    average_precision: float
    prevalence: float  # the precision of a random score


@dataclass(frozen=True, kw_only=True)
class RiskCoverage:
    """Error among the least risky share of the rows, with a pointwise 95 % band."""

    coverage: np.ndarray  # [P] up to 1
    error: np.ndarray  # [P]
    low: np.ndarray  # [P]
    high: np.ndarray  # [P]
    oracle: np.ndarray  # [P] the least error that any score could have
    aurc: float


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Risk against what happened, in bins of equal weight, with a 95 % interval of the share in each bin."""

    risk: np.ndarray  # [C] mean risk
    observed: np.ndarray  # [C] share of label 1
    count: np.ndarray  # [C] rows; a tied score is shared out between bins, so these need not be whole
    low: np.ndarray  # [C]
    high: np.ndarray  # [C]
    ece: float


def roc(score: np.ndarray, y: np.ndarray, most: int = MOST_POINTS) -> Roc:
    """Return the curve of `score` [N] finite and `y` [N] of 0 and 1. Raises ValueError when there is one class only."""
    rows = _both_classes(score, y)
    fpr, tpr = (np.append(0.0, np.cumsum(each[::-1, 0])) for each in (rows.negative, rows.positive))
    fpr, tpr = fpr / fpr[-1], tpr / tpr[-1]
    kept = thin(fpr, tpr, most)
    return Roc(fpr=fpr[kept], tpr=tpr[kept], auroc=float(MEASURES["auroc"].of(rows)[0]))


def precision_recall(score: np.ndarray, y: np.ndarray, most: int = MOST_POINTS) -> PrecisionRecall:
    """Return the curve of `score` [N] finite and `y` [N] of 0 and 1. Raises ValueError when there is one class only."""
    rows = _both_classes(score, y)
    found, flagged = np.cumsum(rows.positive[::-1, 0]), np.cumsum(rows.at[::-1, 0])  # [U] from the riskiest on
    recall, precision = found / found[-1], found / flagged
    kept = thin(recall, precision, most)
    area, share = (float(MEASURES[name].of(rows)[0]) for name in ("auprc", "prevalence"))
    return PrecisionRecall(recall=recall[kept], precision=precision[kept], average_precision=area, prevalence=share)


def risk_coverage(score: np.ndarray, rows: Rows, draws: Draws, points: int = 50) -> RiskCoverage:
    """Return the errors at the coverages 1/P … 1 of `score` [N], finite; rows of all folds are pooled.

    Rows of one score count in proportion. The band holds each point alone, by `interval` of the B draws of images.
    """
    coverage = np.arange(1, points + 1) / points
    whole = tally(score, rows.y, np.ones((1, len(rows))))
    error = _errors(whole, coverage)[:, 0]
    drawn = np.concatenate(
        [_errors(tally(score, rows.y, weights), coverage) for weights in image_draws(rows.images, draws)], axis=1
    )  # [P, B]
    order = np.argsort(score, kind="stable")
    answered = [np.unique(rows.images[order[: int(np.ceil(part))]]) for part in coverage * len(rows)]
    low, high = _band(error, drawn, [len(each) for each in answered])
    prevalence = rows.y.mean()
    oracle = np.maximum(0, coverage - (1 - prevalence)) / coverage
    return RiskCoverage(
        coverage=coverage, error=error, low=low, high=high, oracle=oracle, aurc=float(MEASURES["aurc"].of(whole)[0])
    )


def reliability(risk: np.ndarray, rows: Rows, draws: Draws, bins: int = CALIBRATION_BINS) -> Reliability:
    """Return the share of label 1 in bins of `risk` [N] in 0 … 1; rows of all folds are pooled.

    The rows of a bin are the same in every draw. Raises ValueError when a risk is not a probability.
    """
    if not ((risk >= 0) & (risk <= 1)).all():
        raise ValueError("a reliability curve needs risks between 0 and 1; calibrate the scores first")
    share = _bin_shares(risk, min(bins, len(risk)))  # [N, C]
    count = share.sum(axis=0)
    drawn = []
    for weights in image_draws(rows.images, draws):
        weight = weights @ share  # [b, C]
        positive = (weights * rows.y) @ share
        drawn.append(np.divide(positive, weight, out=np.full_like(positive, np.nan), where=weight > 0))
    observed = rows.y @ share / count
    low, high = _band(observed, np.concatenate(drawn).T, [len(np.unique(rows.images[each > 0])) for each in share.T])
    ece = float(MEASURES["ece"](risk, rows.y, np.ones((1, len(rows))))[0])
    return Reliability(risk=risk @ share / count, observed=observed, count=count, low=low, high=high, ece=ece)


def thin(x: np.ndarray, y: np.ndarray, most: int) -> np.ndarray:
    """Return indices of at most `most` >= 2 of the points `x`, `y` [P], ends included, that bend the line least.

    The point farthest from the line so far is added, over and over (Ramer 1972; Douglas & Peucker 1973); points on a
    straight line are dropped at once.
    """
    kept = {0, len(x) - 1}
    waiting = [_farthest(x, y, 0, len(x) - 1)]
    while waiting and len(kept) < most:
        distance, first, middle, last = heapq.heappop(waiting)
        if distance > -1e-12:
            break
        kept.add(middle)
        for ends in ((first, middle), (middle, last)):
            heapq.heappush(waiting, _farthest(x, y, *ends))
    return np.array(sorted(kept))


def _farthest(x: np.ndarray, y: np.ndarray, first: int, last: int) -> tuple[float, int, int, int]:
    """Return (minus the distance from the chord, first, index, last): the smallest is the farthest."""
    if last - first < 2:
        return 0.0, first, first, last
    dx, dy = x[last] - x[first], y[last] - y[first]
    across, along = x[first + 1 : last] - x[first], y[first + 1 : last] - y[first]
    length = float(np.hypot(dx, dy))
    away = np.abs(dx * along - dy * across) / length if length else np.hypot(across, along)
    middle = int(np.argmax(away))
    return -float(away[middle]), first, first + 1 + middle, last


def _both_classes(score: np.ndarray, y: np.ndarray) -> Tally:
    if len(np.unique(y)) < 2:
        raise ValueError(f"a curve needs both classes: all {len(y)} rows have label {y[0]}")
    return tally(score, y, np.ones((1, len(y))))


def _errors(rows: Tally, coverage: np.ndarray) -> np.ndarray:
    """Return [P, B], the share of label 1 among the least risky rows at each coverage and draw."""
    weight = rows.at
    places = coverage[:, None] * weight.sum(axis=0)  # [P, B]
    return summed_to(rows.positive, weight, places) / places


def _band(values: np.ndarray, draws: np.ndarray, n_images: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the low and high ends [P] of shares `values` [P] from `draws` [P, B]."""
    each = [interval(float(v), d, n, bounded=True) for v, d, n in zip(values, draws, n_images, strict=True)]
    return np.array([estimate.low for estimate in each]), np.array([estimate.high for estimate in each])


def _bin_shares(risk: np.ndarray, bins: int) -> np.ndarray:
    """Return [N, C], the share of each row in each bin: rows of one risk are shared out alike."""
    _, inverse, counts = np.unique(risk, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)[:, None]  # [U, 1]
    edges = np.linspace(0, len(risk), bins + 1)  # [C + 1]
    inside = np.minimum(ends, edges[1:]) - np.maximum(ends - counts[:, None], edges[:-1])  # [U, C]
    return (np.maximum(inside, 0) / counts[:, None])[inverse]
