"""Stacks of all baselines with and without the probe, on the same folds: whether the probe adds anything.

Legend: N rows, K folds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from halp_probe.probes.baselines import IMAGE_ALONE, Baseline
from halp_probe.probes.fitting.splits import Folds
from halp_probe.probes.fusion.fusing import choose
from halp_probe.probes.fusion.stacking import ScoreColumn, stack
from halp_probe.probes.judging.metrics import auroc
from halp_probe.probes.nested import CrossFit

ALL_BASELINES, EARLY_BASELINES, STATELESS_BASELINES = "all_baselines", "early_baselines", "baselines_without_states"
SELECTED_BASELINE = "selected_baseline"
AND_PROBE = "_and_probe"


@dataclass(frozen=True, kw_only=True)
class AddedScores:
    """Stacks of baselines, each without and with the selected probe, and the baseline that is chosen as a probe is."""

    stacks: Mapping[str, CrossFit]  # `all_baselines`, `all_baselines_and_probe`, …
    names: Mapping[str, tuple[str, ...]]  # of the baselines in each stack
    joined: Mapping[str, int]  # folds in which the inner folds took the probe into each stack
    selected: CrossFit | None  # the early baseline chosen for each fold by its training rows; None without baselines


def added_scores(
    baselines: Sequence[Baseline], fits: Mapping[str, CrossFit], y: np.ndarray, folds: Folds
) -> AddedScores:
    """Fit the stacks; `y` [N] of 0 and 1, `fits` the probes of the representations, of which one is chosen by fold.

    Early baselines are those known before the answer's first token, as the probe is; of these, the ones without states
    leave out the image alone. Stacks of the same baselines are fitted once. With the probe, each fold takes the better
    of the two stacks on its inner folds: a probe without a signal need not spoil what the baselines know.
    """
    known = [baseline for baseline in baselines if baseline.known]
    early = [baseline for baseline in known if baseline.early]
    kinds = {ALL_BASELINES: known}
    for name, members in ((EARLY_BASELINES, early), (STATELESS_BASELINES, [e for e in early if e.name != IMAGE_ALONE])):
        if members not in kinds.values():
            kinds[name] = members
    probe = ScoreColumn.of_fit(choose(fits, y, folds))
    stacks, joined = {}, {}
    for name, members in kinds.items():
        if members:
            columns = [_column(baseline, folds) for baseline in members]
            without, with_probe = stack(columns, y, folds)[0], stack([*columns, probe], y, folds)[0]
            better = choose({"with the probe": with_probe, "without it": without}, y, folds)
            stacks[name], stacks[name + AND_PROBE] = without, better
            joined[name] = int((better.candidate == 0).sum())
    selectable = {baseline.name: baseline.fit or _as_fit(baseline, y, folds) for baseline in early or known}
    selected = choose(selectable, y, folds) if selectable else None
    return AddedScores(
        stacks=stacks,
        joined=joined,
        names={name: tuple(each.name for each in members) for name, members in kinds.items()},
        selected=selected,
    )


def _column(baseline: Baseline, folds: Folds) -> ScoreColumn:
    if baseline.fit is not None:
        return ScoreColumn.of_fit(baseline.fit)
    return ScoreColumn.of_number(baseline.score, folds.count)


def _as_fit(baseline: Baseline, y: np.ndarray, folds: Folds) -> CrossFit:
    """Return a score that is not fitted as if it had been, judged on the training folds of each fold."""
    judging = [k for k in range(folds.count) if k not in folds.unjudged]
    each = {k: auroc(baseline.score[folds.fold == k], y[folds.fold == k]) for k in judging}
    inner = [np.mean([each[j] for j in judging if j != k] or [np.nan]) for k in range(folds.count)]
    every = np.tile(baseline.score, (folds.count, 1))
    return CrossFit(
        score=baseline.score,
        models=every,
        candidates=(np.nan,),
        candidate=np.zeros(folds.count, dtype=int),
        inner_auroc=np.array(inner),
        inner_score=every,
        final=None,
        final_auroc=float(np.mean(list(each.values()))),
        final_score=baseline.score,
    )
