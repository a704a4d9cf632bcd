"""Kinds of probes: each takes one representation through all training sets at once.

Legend: N rows, D width, R training sets, S candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from halp_probe.probes.errors import ProbeError
from halp_probe.probes.fitting.comparators import DifferenceOfMeansProbe, RidgeProbe
from halp_probe.probes.fitting.estimators import STRENGTHS, LinearProbe, linear_probe
from halp_probe.probes.fitting.mlp import train_mlps
from halp_probe.probes.fitting.mlp_training import MLPOptions
from halp_probe.probes.fitting.solver import difference_of_means, solve_logistic, solve_ridge
from halp_probe.probes.names import BALANCED, DIFFERENCE, KINDS, LINEAR, MLP, RIDGE

TOLERANCE = 5e-4  # relative distance of coefficients from the optimum: no AUROC shows it


@dataclass(frozen=True, kw_only=True)
class FittedCandidates:
    """Fits of one input on R training sets, with S candidates in each."""

    candidates: tuple[float, ...]  # S, such as strengths of a penalty
    logit: np.ndarray  # [R, S, N] log-odds of label 1 for all rows, those that were trained on too
    probe: Callable[[int, int], Any]  # (training set, candidate) -> the fitted probe


Fitter = Callable[[Any, np.ndarray, np.ndarray], FittedCandidates]  # (X [N, …], y [N] of 0 and 1, train [R, N] bool)


def fitter(
    kind: str,
    strengths: Sequence[float],
    *,
    groups: np.ndarray,
    seed: int,
    device: str,
    class_weight: str | None = None,
) -> Fitter:
    """Return the fitter of linear, ridge, difference or mlp.

    `strengths` are candidates of linear and ridge; `groups` [N] are the rows' images, which the MLP keeps together when
    it sets validation rows aside. `class_weight` of linear is None or `balanced`. Raises ProbeError for another kind.
    """
    if class_weight not in (None, BALANCED):
        raise ProbeError(f"`class_weight` {class_weight!r} is neither None nor {BALANCED!r}")
    if class_weight is not None and kind != LINEAR:
        raise ProbeError(f"`class_weight` goes with the probe {LINEAR!r} alone, not with {kind!r}; leave it out")
    if kind == LINEAR:
        return linear(strengths, device, balanced=class_weight == BALANCED)
    if kind == RIDGE:
        return ridge(strengths, device)
    if kind == DIFFERENCE:
        return difference
    if kind == MLP:
        return mlp(replace(MLPOptions(), random_state=seed), groups, device)
    raise ProbeError(f"there is no probe {kind!r}; choose one of {', '.join(KINDS)}")


def linear(Cs: Sequence[float] = STRENGTHS, device: str = "cpu", *, balanced: bool = False) -> Fitter:
    """Return the fitter of logistic regression, with each C as a candidate; `balanced`: both labels weigh alike."""

    def fit(X: np.ndarray, y: np.ndarray, train: np.ndarray) -> FittedCandidates:
        found = solve_logistic(X, y, train, Cs, balanced=balanced, tolerance=TOLERANCE, device=_solver_device(device))
        template = LinearProbe(Cs=tuple(Cs))
        return FittedCandidates(
            candidates=tuple(Cs), logit=found.logit, probe=lambda r, s: linear_probe(found, r, s, template)
        )

    return fit


def ridge(Cs: Sequence[float] = STRENGTHS, device: str = "cpu") -> Fitter:
    """Return the fitter of least squares, with each C as a candidate."""

    def fit(X: np.ndarray, y: np.ndarray, train: np.ndarray) -> FittedCandidates:
        found = solve_ridge(X, y, train, Cs, tolerance=TOLERANCE, device=_solver_device(device))
        return FittedCandidates(
            candidates=tuple(Cs), logit=found.logit, probe=lambda r, s: RidgeProbe(C=Cs[s]).adopt(found, r, s)
        )

    return fit


def difference(X: np.ndarray, y: np.ndarray, train: np.ndarray) -> FittedCandidates:
    """Fit the difference of the two labels' means; nothing is chosen."""
    found = difference_of_means(X, y, train)
    return FittedCandidates(
        candidates=(np.nan,), logit=found.logit, probe=lambda r, s: DifferenceOfMeansProbe().adopt(found, r, s)
    )


def mlp(options: MLPOptions, groups: np.ndarray | None, device: str = "cpu") -> Fitter:
    """Return the fitter of HALP's MLP with these MLPOptions; nothing is chosen."""

    def fit(X: np.ndarray, y: np.ndarray, train: np.ndarray) -> FittedCandidates:
        found = train_mlps(X, y, train, groups, options, device)
        return FittedCandidates(candidates=(np.nan,), logit=found.logit[:, None], probe=lambda r, s: found.probe(r))

    return fit


def _solver_device(device: str) -> str | None:
    """Return None for the CPU, where the solver works on numpy, without torch."""
    return None if device == "cpu" else device
