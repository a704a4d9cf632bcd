"""Stack of scores: a logistic regression on what several probes or baselines say, nested as they are.

Stacked generalisation (Wolpert 1992, "Stacked generalization", Neural Networks 5): the regression of a test fold is
fitted on scores of the training rows by models that never saw these rows, nor the test fold.

Legend: N rows, K folds, M columns, S strengths, J inner folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from halp_probe.probes.fitting.selection import best_candidate
from halp_probe.probes.fitting.solver import Solutions, solve_logistic
from halp_probe.probes.fitting.splits import Folds
from halp_probe.probes.nested import CrossFit

STACK_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True, kw_only=True)
class ScoreColumn:
    """Score of one probe or baseline through all folds, as an input of a stack."""

    inner: np.ndarray  # [K, N] of each fold's training rows, by models that saw neither the row's fold nor this one
    models: np.ndarray  # [K, N] of all rows by the model of each fold
    final: np.ndarray  # [N] out of fold, on the scale of the probe that is fitted on all rows

    @classmethod
    def of_fit(cls, fit: CrossFit) -> ScoreColumn:
        """Return the column of a cross-fitted probe."""
        return cls(inner=fit.inner_score, models=fit.models, final=fit.final_score)

    @classmethod
    def of_number(cls, values: np.ndarray, folds: int) -> ScoreColumn:
        """Return the column of a number [N] that nothing is fitted for."""
        every = np.broadcast_to(values, (folds, len(values)))
        return cls(inner=every, models=every, final=values)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights of the stack that is fitted on all rows; its log-odds are `columns @ weights + intercept`."""

    weights: np.ndarray  # [M], of the columns as they are
    intercept: float


@dataclass(frozen=True, kw_only=True)
class _Fitted:
    """Stack of one matrix of scores [N, M]."""

    coef: np.ndarray  # [M] of the scores as they are, by the rows that train
    intercept: float
    out_of_fold: np.ndarray  # [N] of the training rows, by stacks that were fitted without the row's fold
    candidate: int
    auroc: float  # of that candidate, mean over the inner folds; nan where none judges


def stack(columns: Sequence[ScoreColumn], y: np.ndarray, folds: Folds) -> tuple[CrossFit, Weights]:
    """Stack M columns; `y` [N] of 0 and 1.

    For each fold the strength of the penalty is chosen on its inner folds, and the regression is fitted on its
    training rows; the test fold is scored once. `final` of the result is None: the caller knows the columns' probes,
    and `Weights` how to add them up. A fold in which a column has no scores has none here.
    """
    count, n = folds.count, len(y)
    score, models, inner_score = np.full(n, np.nan), np.full((count, n), np.nan), np.full((count, n), np.nan)
    candidate, inner_auroc = np.full(count, -1), np.full(count, np.nan)
    for k in range(count):
        inner, outer = (np.stack([getattr(each, of)[k] for each in columns], axis=1) for of in ("inner", "models"))
        fitted = _fit(inner, y, folds, without=k)
        if fitted is None or not np.isfinite(outer).all():
            continue
        models[k] = outer @ fitted.coef + fitted.intercept
        score[folds.fold == k] = models[k, folds.fold == k]
        inner_score[k], candidate[k], inner_auroc[k] = fitted.out_of_fold, fitted.candidate, fitted.auroc
    whole = _fit(np.stack([each.final for each in columns], axis=1), y, folds, without=None)
    empty = np.full(n, np.nan)
    fit = CrossFit(
        score=score,
        models=models,
        candidates=STACK_STRENGTHS,
        candidate=candidate,
        inner_auroc=inner_auroc,
        inner_score=inner_score,
        final=None,
        final_auroc=np.nan if whole is None else whole.auroc,
        final_score=empty if whole is None else whole.out_of_fold,
    )
    nothing = np.zeros(len(columns))
    return fit, Weights(weights=nothing, intercept=0.0) if whole is None else Weights(
        weights=whole.coef, intercept=whole.intercept
    )


def _fit(scores: np.ndarray, y: np.ndarray, folds: Folds, *, without: int | None) -> _Fitted | None:
    """Fit on the rows of `scores` [N, M] outside the fold `without`; None where they lack a class or a score.

    Rows without a score, as those of a fold that could not be scored, neither train nor judge.
    """
    usable = np.isfinite(scores).all(axis=1) & (folds.fold != (-2 if without is None else without))
    if len(np.unique(y[usable])) < 2:
        return None
    inside = [j for j in range(folds.count) if j != without and (usable & (folds.fold == j)).any()]
    inside = [j for j in inside if len(np.unique(y[usable & (folds.fold != j)])) == 2]
    train = np.stack([*(usable & (folds.fold != j) for j in inside), usable])  # [J + 1, N]
    found = solve_logistic(np.where(usable[:, None], scores, 0.0), y, train, STACK_STRENGTHS)
    tests = {j: np.flatnonzero(usable & (folds.fold == j)) for j in inside}
    judging = [row for row, j in enumerate(inside) if len(np.unique(y[tests[j]])) == 2]
    index, auroc = len(STACK_STRENGTHS) // 2, np.nan
    if judging:
        choice = best_candidate(found.logit[judging], y, [tests[inside[row]] for row in judging])
        index, auroc = choice.index, float(choice.auroc[choice.index])
    out_of_fold = np.full(len(y), np.nan)
    for row, j in enumerate(inside):
        out_of_fold[tests[j]] = found.logit[row, index, tests[j]]
    coef, intercept = plain_weights(found, -1, index)
    return _Fitted(coef=coef, intercept=intercept, out_of_fold=out_of_fold, candidate=index, auroc=auroc)


def plain_weights(found: Solutions, r: int, s: int) -> tuple[np.ndarray, float]:
    """Return the weights [D] of inputs as they are, and the intercept, of a solution on standardised inputs."""
    coef = found.coef[r, s] / found.scale[r]
    return coef, float(found.intercept[r, s] - found.mean[r] @ coef)
