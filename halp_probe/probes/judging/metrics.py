"""Judgement of scores by any measure, on bootstrap draws of images, so that differences are paired.

Legend: N rows, K folds, B bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType

import numpy as np

from halp_probe.bootstrap import PATCHY, Draws, Estimate, image_draws, interval, join_notes, p_value
from halp_probe.probes.judging.intervals import MOST_SPREAD
from halp_probe.probes.judging.measures import MEASURES, Measure
from halp_probe.probes.judging.rows import Rows
from halp_probe.probes.judging.tally import tally


@dataclass(frozen=True, kw_only=True)
class MeasuredScore:
    """Values of one measure of one score: on the rows as they are, and in every bootstrap draw."""

    value: float
    draws: np.ndarray  # [B] nan where a draw leaves the measure undefined
    clusters: int  # images that have the label that fewer images have
    bounded: bool  # the measure lies in 0 … 1
    note: str = ""  # why the value is nan, or what its interval leaves out
    spread: float = 1.0  # `refit_spread` of cross-fitted scores

    @property
    def estimate(self) -> Estimate:
        """The value with its 95 % interval."""
        return interval(self.value, self.draws, self.clusters, self.bounded, self.note, self.spread)

    @property
    def control(self) -> Estimate:
        """The estimate for a probe of labels that carry no signal: see `refit_spread`."""
        return replace(self, spread=MOST_SPREAD).estimate

    def minus(self, other: MeasuredScore) -> Estimate:
        """Return the paired difference: both were judged on the same draws."""
        clusters = min(self.clusters, other.clusters)
        note = join_notes(self.note, other.note)
        draws, spread = self.draws - other.draws, max(self.spread, other.spread)
        return interval(self.value - other.value, draws, clusters, bounded=False, note=note, spread=spread)

    def p_value(self, other: MeasuredScore) -> float:
        """Return the two-sided p-value of the paired difference being 0."""
        clusters, spread = min(self.clusters, other.clusters), max(self.spread, other.spread)
        return p_value(self.value - other.value, self.draws - other.draws, clusters, spread)


def auroc(score: np.ndarray, y: np.ndarray) -> float:
    """Return the chance that a row of label 1 scores above a row of label 0, ties counting half; nan with one class."""
    return float(MEASURES["auroc"](score, y, np.ones((1, len(y))))[0])


def judge(
    scores: Mapping[str, np.ndarray], rows: Rows, draws: Draws, spreads: Mapping[str, float] = MappingProxyType({})
) -> dict[str, MeasuredScore]:
    """Judge the mean AUROC over folds of each score; see `judge_measures`.

    Each fold has a model of its own, and the scores of two models need not lie on one scale: pooled, they would be
    ranked against each other. A fold with one class is left out; the value is nan when all are.
    """
    return judge_measures(["auroc"], scores, rows, draws, spreads)["auroc"]


def judge_measures(
    names: Sequence[str],
    scores: Mapping[str, np.ndarray],
    rows: Rows,
    draws: Draws,
    spreads: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, dict[str, MeasuredScore]]:
    """Judge `MEASURES[name]` of each score [N] on the same B draws, so that differences are paired.

    Returns measure -> score -> MeasuredScore. Where a score is nan its whole fold is left out. A draw takes as many
    images as there are, with replacement, and all rows of each, so the interval covers the chance in which images were
    asked about. The fitted models are kept: `spreads` holds, for scores of cross-fitted probes, the `refit_spread` that
    widens the interval for the rows that one fold trains on and another is tested on; scores without one are fixed.
    """
    measures = [MEASURES[name] for name in names]
    blocks: dict[tuple[str, str], list[np.ndarray]] = {(name, key): [] for name in names for key in scores}
    for weights in chain([np.ones((1, len(rows)))], image_draws(rows.images, draws)):
        for key, score in scores.items():
            for name, block in _by_part(measures, score, rows, weights).items():
                blocks[name, key].append(block)
    judged: dict[str, dict[str, MeasuredScore]] = {name: {} for name in names}
    clusters = rows.rarer_images
    for (name, key), found in blocks.items():
        measure = MEASURES[name]
        each = _average(np.concatenate(found, axis=1), scores[key], rows, measure, clusters)
        of_score = measure.higher_is_better is not None  # the prevalence owes nothing to a fitted model
        judged[name][key] = replace(each, spread=spreads.get(key, 1.0) if of_score else 1.0)
    return judged


def _by_part(measures: Sequence[Measure], score: np.ndarray, rows: Rows, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return measure -> [K, B], K the folds in which every row has a score; 1 if pooled, 0 if there is none."""
    folds = [np.flatnonzero(rows.fold == k) for k in np.unique(rows.fold)]
    scored = [inside for inside in folds if np.isfinite(score[inside]).all()]
    pooled = [np.concatenate(scored)] if scored else []
    nothing = np.empty((0, len(weights)))
    found = {measure.name: nothing for measure in measures}
    for by_fold, parts in ((True, scored), (False, pooled)):
        wanted = [m for m in measures if m.by_fold == by_fold and not (m.needs_probability and _beyond(score))]
        if wanted and parts:
            tallies = [tally(score[inside], rows.y[inside], weights.T[inside].T) for inside in parts]
            found |= {measure.name: np.stack([measure.of(each) for each in tallies]) for measure in wanted}
    return found


def _average(each: np.ndarray, score: np.ndarray, rows: Rows, measure: Measure, clusters: int) -> MeasuredScore:
    """Average `each` [K, 1 + B] over folds: its first column has the rows as they are, the others the draws."""
    means = _mean_of_known(each)
    value, draws = float(means[0]), means[1:]
    if not np.isfinite(value):
        return MeasuredScore(
            value=value, draws=draws, clusters=clusters, bounded=measure.bounded, note=_reason(score, rows.y, measure)
        )
    known = np.isfinite(each)
    gaps = int((known[:, 1:] < known[:, :1]).any(axis=0).sum())
    note = f"in {gaps} of {len(draws)} bootstrap draws some fold has one class and is left out of the mean"
    note = note if measure.by_fold and gaps > PATCHY * len(draws) else ""
    return MeasuredScore(value=value, draws=draws, clusters=clusters, bounded=measure.bounded, note=note)


def _reason(score: np.ndarray, y: np.ndarray, measure: Measure) -> str:
    """Say why there is no number."""
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
    """Average [K, B] over folds to [B]; nan where all are."""
    known = np.isfinite(each)
    count = known.sum(axis=0)  # [B]
    total = np.where(known, each, 0.0).sum(axis=0)  # [B]
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
