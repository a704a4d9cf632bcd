"""Effect of noise in the labels on an AUROC: bounds over the unknown labels, and a correction for the wrong ones.

Legend: N labelled rows, U unknown ones, K folds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from halp_probe.bootstrap import Draws, Estimate
from halp_probe.probes.features import LabelledRows
from halp_probe.probes.fitting.splits import Folds
from halp_probe.probes.judging.metrics import judge
from halp_probe.probes.judging.rows import Rows
from halp_probe.probes.results import SELECTED, Judgement
from halp_probe.probes.sweep import Sweep
from halp_probe.probes.unknown_rows import UnknownRows, selected_unknown


@dataclass(frozen=True, kw_only=True)
class LabelErrors:
    """Shares of wrong labels, from a check by hand."""

    right_of_wrong: Estimate  # right, of the rows with label 1
    wrong_of_right: Estimate  # hallucinated, of the rows with label 0
    checked: int  # rows


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """AUROC of one score over the labelled rows and the unknown ones.

    `lowest` and `highest` are over all ways to label the unknown rows.
    """

    unknown: int  # U
    if_right: Estimate
    if_wrong: Estimate
    lowest: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class LabelNoise:
    """Knowledge of the labels' noise and of its effect. `bounds`: by probe, empty without unknown rows.

    `corrected`: the headline's AUROC if labels err as `errors` say; None without a check by hand.
    """

    bounds: Mapping[str, Bounds]
    left_out: int  # unknown rows that are in no bound
    errors: LabelErrors | None
    corrected: Estimate | None


def label_noise(
    judgement: Judgement,
    sweep: Sweep,
    rows: LabelledRows,
    folds: Folds,
    unknown: UnknownRows,
    draws: Draws,
    errors: LabelErrors | None = None,
) -> LabelNoise:
    """Bound the AUROC of the selected probe and of each representation; correct that of the headline."""
    scores = dict(sweep.unknown)
    if sweep.selected is not None:
        scores = {SELECTED: selected_unknown(sweep.selected, sweep.unknown, unknown.fold), **scores}
    here = {name: np.isfinite(score) for name, score in scores.items()}
    found = {
        name: _bounds(name, judgement, rows, folds, unknown, score, draws)
        for name, score in scores.items()
        if here[name].any()
    }
    headline = here.get(judgement.headline.name, np.zeros(0, dtype=bool))
    return LabelNoise(
        bounds=found,
        left_out=unknown.left_out + int((~headline).sum()),
        errors=errors,
        corrected=None if errors is None else correct(judgement.headline.auroc, errors),
    )


def correct(auroc: Estimate, errors: LabelErrors) -> Estimate:
    """Return the AUROC on true labels: 1/2 + (AUROC - 1/2) / (1 - a - b), a and b the shares of wrong labels.

    Menon et al. 2015 ("Learning from corrupted binary labels via class-probability estimation", ICML), for labels that
    are wrong whatever the score, given the truth. The ends use those of the shares' intervals and of the AUROC's.
    """
    wrong, right = errors.right_of_wrong, errors.wrong_of_right
    kept = [1 - wrong.value - right.value, 1 - wrong.low - right.low, 1 - wrong.high - right.high]
    if not all(np.isfinite(kept)):
        missing = "hallucinated" if not np.isfinite(wrong.value) else "right"
        return Estimate(value=np.nan, low=np.nan, high=np.nan, note=f"no row called {missing} was checked")
    if kept[0] <= 0:
        return Estimate(value=np.nan, low=np.nan, high=np.nan, note="the labels say no more than chance does")
    value, low, high = auroc.value, auroc.low, auroc.high
    ends = [_scale(end, share) for end in (low, high) for share in kept[1:]]
    return Estimate(value=_scale(value, kept[0]), low=min(ends), high=max(ends), note="")


def extremes(score: np.ndarray, y: np.ndarray, free: np.ndarray) -> tuple[float, float]:
    """Return the lowest and the highest AUROC over all labels of the rows with scores `free` [U].

    `score` [N] are those of the rows with labels `y` [N] of 0 and 1, both present. Of all labellings with m positives
    the lowest AUROC has the m lowest scores as positives, so U + 1 of them are tried.
    """
    return _lowest(score, y, free), 1 - _lowest(-score, y, -free)


def _bounds(
    name: str,
    judgement: Judgement,
    rows: LabelledRows,
    folds: Folds,
    unknown: UnknownRows,
    score: np.ndarray,
    draws: Draws,
) -> Bounds:
    n, usable = len(rows.y), np.isfinite(score)
    fold = np.concatenate([folds.fold, unknown.fold])
    whole = np.concatenate([judgement.scores[name], score])
    judged = np.isin(fold, [k for k in range(folds.count) if k not in folds.unjudged])
    taken = judged & np.concatenate([np.ones(n, dtype=bool), usable])
    estimates = []
    for label in (0, 1):
        y = np.concatenate([rows.y, np.full(len(score), label)])
        own = Rows(y=y, fold=fold, images=unknown.image_codes).take(taken)
        spreads = {name: judgement.result(name).spread}
        estimates.append(judge({name: whole[taken]}, own, draws, spreads)[name].estimate)
    ends = []
    for k in np.unique(fold[taken]):
        own_rows, free = folds.fold == k, score[(unknown.fold == k) & usable]
        ends.append(extremes(judgement.scores[name][own_rows], rows.y[own_rows], free))
    lowest, highest = np.mean(ends, axis=0)
    return Bounds(
        unknown=int(taken[n:].sum()),
        if_right=estimates[0],
        if_wrong=estimates[1],
        lowest=float(lowest),
        highest=float(highest),
    )


def _lowest(score: np.ndarray, y: np.ndarray, free: np.ndarray) -> float:
    positive, negative, free = np.sort(score[y == 1]), np.sort(score[y == 0]), np.sort(free)
    known = _below(negative, positive).sum()
    # With the first m of `free` positive: known pairs, positives over the free negatives, free positives over negatives
    over = len(positive) - _below(positive, free)  # [U] positives above each free row, ties half
    under = _below(negative, free)  # [U] negatives below each
    m = np.arange(len(free) + 1)
    ahead = np.concatenate([[0.0], np.cumsum(under)]) + np.concatenate([np.cumsum(over[::-1])[::-1], [0.0]])
    pairs = known + ahead + _ties(free)
    return float((pairs / ((len(positive) + m) * (len(negative) + len(free) - m))).min())


def _below(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return how many of the sorted `values` lie below each of `at`; equal ones count half."""
    return (np.searchsorted(values, at, "left") + np.searchsorted(values, at, "right")) / 2


def _ties(free: np.ndarray) -> np.ndarray:
    """Return [U + 1]: half the pairs of equal scores, of the sorted `free`, with one among the first m and one not."""
    m = np.arange(len(free) + 1)
    edge = free[np.minimum(m, len(free) - 1)] if len(free) else free
    if not len(free):
        return np.zeros(1)
    start, stop = np.searchsorted(free, edge, "left"), np.searchsorted(free, edge, "right")
    return np.maximum(m - start, 0) * np.maximum(stop - m, 0) / 2


def _scale(auroc: float, kept: float) -> float:
    """Return the AUROC on true labels where a share `kept` of its distance from 1/2 is left; at most 0 to 1."""
    if kept <= 0:
        return 1.0 if auroc > 0.5 else 0.0
    return float(np.clip(0.5 + (auroc - 0.5) / kept, 0.0, 1.0))
