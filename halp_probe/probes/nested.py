"""Nested evaluation: what is chosen for a test fold is chosen on the other folds, and the test fold is scored once.

Candidates are the strengths of one kind of probe (inside `cross_fit`) and the representations (inside `select`).
Legend: N rows, K folds, R training sets, S candidates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from halp_probe.probes.fitting.kinds import FittedCandidates
from halp_probe.probes.fitting.selection import best_candidate
from halp_probe.probes.fitting.splits import Folds
from halp_probe.probes.judging.calibration import Calibration
from halp_probe.probes.judging.intervals import refit_spread
from halp_probe.probes.training_sets import TrainingSets


@dataclass(frozen=True, kw_only=True)
class CrossFit:
    """Scores of one representation (or baseline) through all folds."""

    score: np.ndarray  # [N] out-of-fold log-odds of label 1; nan where no model could be fitted, or no fold tests
    models: np.ndarray  # [K, N] log-odds of all rows by the model of each fold; nan where none could be fitted
    candidates: tuple[float, ...]  # S
    candidate: np.ndarray  # [K] int: which was chosen for each fold; -1 where no model could be fitted
    inner_auroc: np.ndarray  # [K] of that candidate, mean over the inner folds; nan without inner folds
    inner_score: np.ndarray  # [K, N] what the inner folds gave the training rows of each fold; nan elsewhere
    final: Any  # the probe fitted on all rows, with the candidate that is best over all folds
    final_auroc: float  # of that candidate, mean over the folds; nan when none judges
    final_score: np.ndarray  # [N] out-of-fold log-odds with that candidate, on the scale of `final`; nan as in `score`
    names: tuple[str, ...] = ()  # S: of the candidates, where they are no numbers

    @property
    def chosen(self) -> tuple[float, ...]:
        """Candidate of each fold that was fitted; empty when there was nothing to choose, or when they have names."""
        if self.names or len(self.candidates) < 2:
            return ()
        return tuple(self.candidates[c] for c in self.candidate if c >= 0)

    @property
    def chosen_names(self) -> Counter[str]:
        """Number of folds that chose each candidate which has a name."""
        return Counter(self.names[c] for c in self.candidate if c >= 0 and self.names)


@dataclass(frozen=True, kw_only=True)
class SelectedProbe:
    """Probe whose representation is chosen anew for each test fold, by the inner folds alone."""

    representation: tuple[str, ...]  # K: of each fold; "" where none could be chosen
    score: np.ndarray  # [N] its out-of-fold log-odds
    models: np.ndarray  # [K, N] log-odds of all rows by the probe of each fold
    risk: np.ndarray  # [N] the same as probabilities, calibrated inside the training rows

    @property
    def counts(self) -> Counter[str]:
        """Number of folds in which each representation was chosen."""
        return Counter(name for name in self.representation if name)

    @property
    def most_chosen(self) -> str:
        """Representation that the most folds chose."""
        return self.counts.most_common(1)[0][0]


def cross_fit(fitted: FittedCandidates, y: np.ndarray, folds: Folds, sets: TrainingSets) -> CrossFit:
    """Return the out-of-fold scores of `fitted`, which was fitted on all training sets; `y` [N] of 0 and 1."""
    (score, final_score), inner_auroc = np.full((2, len(y)), np.nan), np.full(folds.count, np.nan)
    models, inner_score = (np.full((folds.count, len(y)), np.nan) for _ in range(2))
    candidate = np.full(folds.count, -1)
    for k in range(folds.count):
        own = sets.without(k)
        if own is None:
            continue
        inner = {j: pair for j in range(folds.count) if j != k and (pair := sets.without(k, j)) is not None}
        candidate[k], inner_auroc[k] = _best(fitted, y, folds, inner)
        models[k] = fitted.logit[own, candidate[k]]
        test = folds.fold == k
        score[test] = models[k, test]
        for j, pair in inner.items():
            rows = folds.fold == j
            inner_score[k, rows] = fitted.logit[pair, candidate[k], rows]
    outer = {k: own for k in range(folds.count) if (own := sets.without(k)) is not None}
    best, best_auroc = _best(fitted, y, folds, outer)
    for k, own in outer.items():
        test = folds.fold == k
        final_score[test] = fitted.logit[own, best, test]
    final = fitted.probe(sets.everything, best)
    return CrossFit(
        score=score,
        models=models,
        candidates=fitted.candidates,
        candidate=candidate,
        inner_auroc=inner_auroc,
        inner_score=inner_score,
        final=final,
        final_auroc=best_auroc,
        final_score=final_score,
    )


def _best(fitted: FittedCandidates, y: np.ndarray, folds: Folds, sets: Mapping[int, int]) -> tuple[int, float]:
    """Return the best candidate where training set `sets[j]` is judged on fold j, and its mean AUROC.

    The AUROC is nan where no fold judges. Folds with one class do not judge; without any that do, it is the
    candidate in the middle.
    """
    judging = [j for j in sets if j not in folds.unjudged]
    if not judging:
        return len(fitted.candidates) // 2, np.nan
    logits = fitted.logit[[sets[j] for j in judging]]  # [J, S, N]
    choice = best_candidate(logits, y, [np.flatnonzero(folds.fold == j) for j in judging])
    return choice.index, float(choice.auroc[choice.index])


def select(fits: Mapping[str, CrossFit], y: np.ndarray, folds: Folds, calibration: str) -> SelectedProbe | None:
    """Choose for each fold the representation with the highest inner AUROC, the first of equals.

    Returns None without inner folds.
    """
    names = list(fits)
    inner = np.stack([fits[name].inner_auroc for name in names])  # [names, K]
    if np.isnan(inner).all():
        return None
    score, risk, models = np.full(len(y), np.nan), np.full(len(y), np.nan), np.full((folds.count, len(y)), np.nan)
    representation = []
    for k in range(folds.count):
        if np.isnan(inner[:, k]).all():
            representation.append("")
            continue
        representation.append(names[int(np.nanargmax(inner[:, k]))])
        fit, test = fits[representation[-1]], folds.fold == k
        known = np.isfinite(fit.inner_score[k])
        models[k], score[test] = fit.models[k], fit.score[test]
        risk[test] = Calibration.fit(calibration, fit.inner_score[k, known], y[known])(fit.score[test])
    return SelectedProbe(representation=tuple(representation), score=score, models=models, risk=risk)


def spread(models: np.ndarray, y: np.ndarray) -> float:
    """Return how much wider an interval must be because a fold's test rows train the other folds' models.

    It is relative to the interval of fixed scores. `models` [K, N] as in CrossFit; 1 for one split, in which no row
    both trains and tests.
    """
    if len(models) == 1:
        return 1.0
    return refit_spread(models[np.isfinite(models).all(axis=1)], y)
