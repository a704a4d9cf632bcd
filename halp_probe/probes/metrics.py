"""Any measure of a score with its interval from a bootstrap over images, and paired differences.

Legend: N rows, K folds, B bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from halp_probe.probes.measures import MEASURES, Measure
from halp_probe.probes.tally import tally

PATCHY = 0.05  # share of draws that may lack a class before the interval says so

_CELLS_AT_ONCE = 500_000  # weights in memory at a time: what fits a processor's cache is fastest
_TAIL = 2.5  # percent on either side of the interval


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval; nan where it cannot be known, and then `note` says why."""

    value: float
    low: float
    high: float
    note: str = ""


@dataclass(frozen=True)
class Judged:
    """One measure of one score: on the rows as they are, and in every bootstrap draw."""

    value: float
    draws: np.ndarray  # [B] nan where a draw leaves the measure undefined
    note: str = ""  # why the value is nan, or what its interval leaves out

    @property
    def estimate(self) -> Estimate:
        return interval(self.value, self.draws, self.note)

    def minus(self, other: Judged) -> Estimate:
        """The paired difference: both were judged on the same draws."""
        return interval(self.value - other.value, self.draws - other.draws, _joined(self.note, other.note))


def auroc(y: np.ndarray, score: np.ndarray) -> float:
    """The chance that a row of label 1 scores above a row of label 0, ties counting half; nan with one class."""
    return float(weighted_auroc(y, score, np.ones((1, len(y))))[0])


def weighted_auroc(y: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[B] AUROC under each draw's weights; `y` [N] of 0 and 1, `score` [N] finite, `weights` [B, N].

    With whole numbers as weights it is the AUROC of rows repeated that often. nan where a class has no weight.
    """
    return MEASURES["auroc"](y, score, weights)


def fold_mean_auroc(y: np.ndarray, score: np.ndarray, fold: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[B] mean over test folds of each fold's AUROC; `fold` [N], `weights` [B, N].

    Each fold has a model of its own, and the scores of two models need not lie on one scale: pooled, they would be
    ranked against each other. A fold with one class, or with rows that have no score, is left out; nan when all are.
    """
    return _mean_of_known(_by_part([MEASURES["auroc"]], y, score, fold, weights)["auroc"])


def judge(
    scores: Mapping[str, np.ndarray], y: np.ndarray, fold: np.ndarray, images: np.ndarray, n_draws: int, seed: int
) -> dict[str, Judged]:
    """The mean AUROC over folds of each score; see `judge_measures`."""
    return judge_measures(["auroc"], scores, y, fold, images, n_draws, seed)["auroc"]


def judge_measures(
    names: Sequence[str],
    scores: Mapping[str, np.ndarray],
    y: np.ndarray,
    fold: np.ndarray,
    images: np.ndarray,
    n_draws: int,
    seed: int,
) -> dict[str, dict[str, Judged]]:
    """Measure -> score -> Judged: `MEASURES[name]` of each score [N] on the same B draws, so differences are paired.

    `y` [N] of 0 and 1, `fold` and `images` [N]; where a score is nan its whole fold is left out. A draw takes as many
    images as there are, with replacement, and all rows of each. The interval so covers the chance in which images were
    asked about; the fitted models are kept, so the chance in their training rows is not in it.
    """
    measures = [MEASURES[name] for name in names]
    blocks: dict[tuple[str, str], list[np.ndarray]] = {(name, key): [] for name in names for key in scores}
    for weights in chain([np.ones((1, len(y)))], image_draws(images, n_draws, seed)):
        for key, score in scores.items():
            for name, block in _by_part(measures, y, score, fold, weights).items():
                blocks[name, key].append(block)
    judged: dict[str, dict[str, Judged]] = {name: {} for name in names}
    for (name, key), found in blocks.items():
        judged[name][key] = _judged(np.concatenate(found, axis=1), y, scores[key], MEASURES[name])
    return judged


def image_draws(images: np.ndarray, n_draws: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks [b, N] that sum to B draws: how often each row's image was drawn; `images` [N]."""
    codes = np.unique(images, return_inverse=True)[1]
    n_images = int(codes.max()) + 1
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS_AT_ONCE // len(codes))
    for begin in range(0, n_draws, step):
        size = min(step, n_draws - begin)
        counts = [np.bincount(rng.integers(n_images, size=n_images), minlength=n_images) for _ in range(size)]
        yield np.stack(counts, axis=1).astype(np.int32)[codes].T  # rows first in memory, as `tally` reads them


def interval(value: float, draws: np.ndarray, note: str = "") -> Estimate:
    """The 95 % percentile interval of `draws` [B], nan ones left out; none when most of them are nan."""
    known = draws[np.isfinite(draws)]
    if not np.isfinite(value):
        return Estimate(np.nan, np.nan, np.nan, note or "not defined on these rows")
    if 2 * len(known) <= len(draws):
        reason = f"no interval: the measure is defined in only {len(known)} of {len(draws)} bootstrap draws"
        return Estimate(float(value), np.nan, np.nan, _joined(note, reason))
    low, high = np.percentile(known, (_TAIL, 100 - _TAIL))
    if len(known) < (1 - PATCHY) * len(draws):
        note = _joined(note, f"interval from {len(known)} of {len(draws)} bootstrap draws; undefined in the others")
    if known.min() == known.max():
        note = _joined(note, f"no interval to speak of: all bootstrap draws give {known[0]:.3g}")
    return Estimate(float(value), float(low), float(high), note)


def _by_part(
    measures: Sequence[Measure], y: np.ndarray, score: np.ndarray, fold: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Measure -> [K, B], K the folds in which every row has a score, or 1 for them pooled; 0 where there is nothing."""
    folds = [np.flatnonzero(fold == k) for k in np.unique(fold)]
    scored = [rows for rows in folds if np.isfinite(score[rows]).all()]
    pooled = [np.concatenate(scored)] if scored else []
    nothing = np.empty((0, len(weights)))
    found = {measure.name: nothing for measure in measures}
    for by_fold, parts in ((True, scored), (False, pooled)):
        wanted = [m for m in measures if m.by_fold == by_fold and not (m.needs_probability and _beyond(score))]
        if wanted and parts:
            tallies = [tally(y[rows], score[rows], weights.T[rows].T) for rows in parts]
            found |= {measure.name: np.stack([measure.of(each) for each in tallies]) for measure in wanted}
    return found


def _judged(each: np.ndarray, y: np.ndarray, score: np.ndarray, measure: Measure) -> Judged:
    """From [K, 1 + B]: the rows as they are, then the draws."""
    means = _mean_of_known(each)
    value, draws = float(means[0]), means[1:]
    if not np.isfinite(value):
        return Judged(value, draws, _reason(y, score, measure))
    known = np.isfinite(each)
    gaps = int((known[:, 1:] < known[:, :1]).any(axis=0).sum())
    note = f"in {gaps} of {len(draws)} bootstrap draws some fold has one class and is left out of the mean"
    return Judged(value, draws, note if measure.by_fold and gaps > PATCHY * len(draws) else "")


def _reason(y: np.ndarray, score: np.ndarray, measure: Measure) -> str:
    """Why there is no number."""
    if measure.needs_probability and _beyond(score):
        return "the score is not a probability"
    if not np.isfinite(score).any():
        return "no row has a score"
    if len(np.unique(y)) == 1:
        return f"all {len(y)} rows have label {y[0]}"
    return "no test fold has both classes and a score for every row"


def _beyond(score: np.ndarray) -> bool:
    known = score[np.isfinite(score)]
    return bool(len(known) and (known.min() < 0 or known.max() > 1))


def _mean_of_known(each: np.ndarray) -> np.ndarray:
    """[K, B] -> [B], nan where all are."""
    known = np.isfinite(each)
    count = known.sum(axis=0)  # [B]
    total = np.where(known, each, 0.0).sum(axis=0)  # [B]
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def _joined(*notes: str) -> str:
    return "; ".join(dict.fromkeys(filter(None, notes)))
