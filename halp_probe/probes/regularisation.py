"""Choose the strength of logistic regression's penalty inside a training set.

Legend: I inner splits, S candidate strengths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from halp_probe.probes.metrics import auroc
from halp_probe.probes.splits import Split

Prepare = Callable[[Any, Any], "Prepared"]


@dataclass(frozen=True)
class Prepared:
    """Inputs of the regression, made from raw inputs by what was learned on the training rows alone."""

    train: Any  # [n, F] dense or sparse
    test: Any  # [m, F]


@dataclass(frozen=True)
class Choice:
    C: float
    auroc: np.ndarray  # [S] mean over the inner splits; nan when there was nothing to choose, or no split to choose by


def choose_C(
    X: Any,
    y: np.ndarray,
    splits: Sequence[Split],
    *,
    prepare: Prepare,
    Cs: Sequence[float],
    fallback_C: float,
    max_iter: int,
) -> Choice:
    """The C with the highest mean AUROC over the splits; of equals, the one with the lowest mean log-loss.

    `y` holds 0 and 1. Without splits it is `fallback_C`, with one candidate that one.
    """
    if len(Cs) == 1 or not splits:
        return Choice(Cs[0] if len(Cs) == 1 else fallback_C, np.full(len(Cs), np.nan))
    ranks = np.empty((len(splits), len(Cs)))  # [I, S]
    losses = np.empty((len(splits), len(Cs)))  # [I, S]
    for i, split in enumerate(splits):
        data = prepare(X[split.train], X[split.test])
        model = LogisticRegression(max_iter=max_iter, warm_start=True)
        for s in np.argsort(Cs):  # from strong to weak penalty: each solution is a good start for the next
            logit = model.set_params(C=Cs[s]).fit(data.train, y[split.train]).decision_function(data.test)
            ranks[i, s] = auroc(y[split.test], logit)
            losses[i, s] = np.mean(np.logaddexp(0, logit) - y[split.test] * logit)
    best = np.lexsort((losses.mean(axis=0), -ranks.mean(axis=0)))[0]
    return Choice(Cs[best], ranks.mean(axis=0))
