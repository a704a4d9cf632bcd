"""AUROC, its mean over test folds, and intervals from a bootstrap over images.

Legend: N rows, K folds, B bootstrap draws, U distinct scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

_CELLS_AT_ONCE = 4_000_000  # weights in memory at a time: 32 MB
_TAIL = 2.5  # percent on either side of the interval


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval; nan where it cannot be known."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Judged:
    """The mean AUROC over folds of one score: on the rows as they are, and in every bootstrap draw."""

    value: float
    draws: np.ndarray  # [B]

    @property
    def estimate(self) -> Estimate:
        return _estimate(self.value, self.draws)

    def minus(self, other: Judged) -> Estimate:
        """The paired difference: both were judged on the same draws."""
        return _estimate(self.value - other.value, self.draws - other.draws)


def auroc(y: np.ndarray, score: np.ndarray) -> float:
    """The chance that a row of label 1 scores above a row of label 0, ties counting half; nan with one class."""
    return float(weighted_auroc(y, score, np.ones((1, len(y))))[0])


def weighted_auroc(y: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[B] AUROC under each draw's weights; `y` [N] of 0 and 1, `score` [N] finite, `weights` [B, N].

    With whole numbers as weights it is the AUROC of rows repeated that often. nan where a class has no weight.
    """
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))  # [U] where each distinct score begins
    weights = weights[:, order].astype(np.float64)  # [B, N]
    positive = np.add.reduceat(weights * (y[order] == 1), starts, axis=1)  # [B, U]
    negative = np.add.reduceat(weights * (y[order] == 0), starts, axis=1)  # [B, U]
    below = np.cumsum(negative, axis=1) - negative  # [B, U] weight of label 0 with a lower score
    won = (positive * (below + 0.5 * negative)).sum(axis=1)  # [B]
    pairs = positive.sum(axis=1) * negative.sum(axis=1)  # [B]
    return np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0)


def fold_mean_auroc(y: np.ndarray, score: np.ndarray, fold: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[B] mean over test folds of each fold's AUROC; `fold` [N], `weights` [B, N].

    Each fold has a model of its own, and the scores of two models need not lie on one scale: pooled, they would be
    ranked against each other. A fold with one class, or with rows that have no score, is left out; nan when all are.
    """
    each = np.stack([_fold_auroc(y, score, fold == k, weights) for k in np.unique(fold)])  # [K, B]
    known = np.isfinite(each)
    count = known.sum(axis=0)  # [B]
    total = np.where(known, each, 0.0).sum(axis=0)  # [B]
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def judge(
    scores: Mapping[str, np.ndarray], y: np.ndarray, fold: np.ndarray, images: np.ndarray, n_draws: int, seed: int
) -> dict[str, Judged]:
    """Judge each score [N] on the same B draws, so that their differences are paired.

    A draw takes as many images as there are, with replacement, and all rows of each. The interval so covers the chance
    in which images were asked about; the fitted models are kept, so the chance in their training rows is not in it.
    """
    whole = np.ones((1, len(y)))
    values = {name: fold_mean_auroc(y, score, fold, whole)[0] for name, score in scores.items()}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in scores}
    for weights in image_draws(images, n_draws, seed):
        for name, score in scores.items():
            parts[name].append(fold_mean_auroc(y, score, fold, weights))
    return {name: Judged(float(values[name]), np.concatenate(parts[name])) for name in scores}


def image_draws(images: np.ndarray, n_draws: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks [b, N] that sum to B draws: how often each row's image was drawn; `images` [N]."""
    codes = np.unique(images, return_inverse=True)[1]
    n_images = int(codes.max()) + 1
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS_AT_ONCE // len(codes))
    for begin in range(0, n_draws, step):
        size = min(step, n_draws - begin)
        counts = [np.bincount(rng.integers(n_images, size=n_images), minlength=n_images) for _ in range(size)]
        yield np.stack(counts)[:, codes]


def _fold_auroc(y: np.ndarray, score: np.ndarray, inside: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[B]"""
    if not np.isfinite(score[inside]).all():
        return np.full(len(weights), np.nan)
    return weighted_auroc(y[inside], score[inside], weights[:, inside])


def _estimate(value: float, draws: np.ndarray) -> Estimate:
    known = draws[np.isfinite(draws)]
    if not len(known) or not np.isfinite(value):
        return Estimate(float(value), np.nan, np.nan)
    low, high = np.percentile(known, (_TAIL, 100 - _TAIL))
    return Estimate(float(value), float(low), float(high))
