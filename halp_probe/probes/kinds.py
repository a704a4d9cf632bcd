"""The kinds of probes: each takes one representation through all training sets at once.

Legend: N rows, D width, R training sets, S candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from halp_probe.probes.solver import solve_logistic

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Fitted:
    """One input through R training sets, with S candidates in each."""

    candidates: tuple[float, ...]  # S, such as strengths of a penalty
    logit: np.ndarray  # [R, S, N] log-odds of label 1 for all rows, those that were trained on too
    probe: Callable[[int, int], Any]  # (training set, candidate) -> the fitted probe


Fitter = Callable[[Any, np.ndarray, np.ndarray], Fitted]  # (X [N, …], y [N] of 0 and 1, train [R, N] bool)


def linear(Cs: Sequence[float] = STRENGTHS, device: str = "cpu") -> Fitter:
    def fit(X: np.ndarray, y: np.ndarray, train: np.ndarray) -> Fitted:
        found = solve_logistic(X, y, train, Cs, device=device)
        return Fitted(tuple(Cs), found.logit, lambda r, s: _p(found, r, s, Cs, y))

    return fit

def _p(f, r, s, Cs, y):
    from halp_probe.probes.estimators import LinearProbe
    p = LinearProbe(Cs=tuple(Cs)); p.mean_, p.scale_, p.coef_, p.intercept_ = f.mean[r], f.scale[r], f.coef[r,s][None], f.intercept[r,s][None]
    p.C_=Cs[s]; p.classes_=np.array([0,1]); p.n_features_in_=len(p.mean_); return p

def fitter(kind, *, groups, seed, device, mlp=None):
    return linear(device=device)
