"""Any measure of a score, judged on bootstrap draws of images, so that differences are paired.

Legend: N rows, K folds, B bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType

import numpy as np

from halp_probe.bootstrap import PATCHY, Estimate, image_draws, interval, join_notes
from halp_probe.probes.judging.intervals import MOST_SPREAD
from halp_probe.probes.judging.measures import MEASURES, Measure
from halp_probe.probes.judging.tally import tally


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One measure of one score: on the rows as they are, and in every bootstrap draw."""

    value: float
    draws: np.ndarray  # [B] nan where a draw leaves the measure undefined
    clusters: int  # images that have the label that fewer images have
    bounded: bool  # the measure lies in 0 … 1
    note: str = ""  # why the value is nan, or what its interval leaves out
    spread: float = 1.0  # `refit_spread` of cross-fitted scores

    @property
    def estimate(self) -> Estimate:
        return interval(self.value, self.draws, self.clusters, self.bounded, self.note, self.spread)

    @property
    def control(self) -> Estimate:
        """The estimate for a probe of labels that carry no signal: see `refit_spread`."""
        return replace(self, spread=MOST_SPREAD).estimate

    def minus(self, other: Judged) -> Estimate:
        """The paired difference: both were judged on the same draws."""
        clusters = min(self.clusters, other.clusters)
        note = join_notes(self.note, other.note)
        draws, spread = self.draws - other.draws, max(self.spread, other.spread)
        return interval(self.value - other.value, draws, clusters, bounded=False, note=note, spread=spread)


def auroc(y: np.ndarray, score: np.ndarray) -> float:
    """The chance that a row of label 1 scores above a row of label 0, ties counting half; nan with one class."""
    return float(MEASURES["auroc"](y, score, np.ones((1, len(y))))[0])


def judge(
    scores: Mapping[str, np.ndarray],
    y: np.ndarray,
    fold: np.ndarray,
    images: np.ndarray,
    n_draws: int,
    seed: int,
    spreads: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Judged]:
    """The mean AUROC over folds of each score; see `judge_measures`.

    Each fold has a model of its own, and the scores of two models need not lie on one scale: pooled, they would be
    ranked against each other. A fold with one class is left out; the value is nan when all are.
    """
    return judge_measures(["auroc"], scores, y, fold, images, n_draws, seed, spreads)["auroc"]


def judge_measures(
    names: Sequence[str],
    scores: Mapping[str, np.ndarray],
    y: np.ndarray,
    fold: np.ndarray,
    images: np.ndarray,
    n_draws: int,
    seed: int,
    spreads: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, dict[str, Judged]]:
    """Measure -> score -> Judged: `MEASURES[name]` of each score [N] on the same B draws, so differences are paired.

    `y` [N] of 0 and 1, `fold` and `images` [N]; where a score is nan its whole fold is left out. A draw takes as many
    images as there are, with replacement, and all rows of each. The interval so covers the chance in which images were
    asked about. The fitted models are kept: `spreads` holds, for scores of cross-fitted probes, the `refit_spread` that
    widens the interval for the rows that one fold trains on and another is tested on; scores without one are fixed.
    """
    measures = [MEASURES[name] for name in names]
    blocks: dict[tuple[str, str], list[np.ndarray]] = {(name, key): [] for name in names for key in scores}
    for weights in chain([np.ones((1, len(y)))], image_draws(images, n_draws, seed)):
        for key, score in scores.items():
            for name, block in _by_part(measures, y, score, fold, weights).items():
                blocks[name, key].append(block)
    judged: dict[str, dict[str, Judged]] = {name: {} for name in names}
    clusters = rarer_images(y, images)
    for (name, key), found in blocks.items():
        measure = MEASURES[name]
        each = _judged(np.concatenate(found, axis=1), y, scores[key], measure, clusters)
        of_score = measure.higher_is_better is not None  # the prevalence owes nothing to a fitted model
        judged[name][key] = replace(each, spread=spreads.get(key, 1.0) if of_score else 1.0)
    return judged


def rarer_images(y: np.ndarray, images: np.ndarray) -> int:
    """How many images have a row of the label that fewer images have; `y` [N] of 0 and 1, `images` [N]."""
    return min(len(np.unique(images[y == label])) for label in (0, 1))


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


def _judged(each: np.ndarray, y: np.ndarray, score: np.ndarray, measure: Measure, clusters: int) -> Judged:
    """From [K, 1 + B]: the rows as they are, then the draws."""
    means = _mean_of_known(each)
    value, draws = float(means[0]), means[1:]
    if not np.isfinite(value):
        return Judged(
            value=value, draws=draws, clusters=clusters, bounded=measure.bounded, note=_reason(y, score, measure)
        )
    known = np.isfinite(each)
    gaps = int((known[:, 1:] < known[:, :1]).any(axis=0).sum())
    note = f"in {gaps} of {len(draws)} bootstrap draws some fold has one class and is left out of the mean"
    note = note if measure.by_fold and gaps > PATCHY * len(draws) else ""
    return Judged(value=value, draws=draws, clusters=clusters, bounded=measure.bounded, note=note)


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
