"""Solver of linear probes for all training sets and strengths at once, as products with one copy of the inputs.

Legend: N rows, D width, R training sets, S strengths, F = R × S problems.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import array_api_compat.numpy as numpy_api
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from halp_probe.probes.fitting.lbfgs import Minimiser, Optima, Problems, host
from halp_probe.probes.fitting.losses import LOGISTIC, SQUARED, Loss
from halp_probe.probes.fitting.preconditioner import Preconditioner, preconditioner
from halp_probe.probes.fitting.scaling import Moments, ScaledInputs, moments

TOLERANCE = {"float32": 5e-4, "float64": 1e-6}
_TOGETHER = 80  # iterations of all problems on one factorisation
_ALONE = 40  # iterations of one problem on its own factorisation, before that is made anew
_SMALL = 2_000_000  # numbers in X up to which float64 costs nothing worth saving: 16 MB


@dataclass(frozen=True, kw_only=True)
class Solutions:
    """Solutions of R training sets × S strengths, each the optimum of its own standardised problem."""

    mean: np.ndarray  # [R, D] float64, of each training set
    scale: np.ndarray  # [R, D] float64; 1 for a feature that is constant in that training set
    coef: np.ndarray  # [R, S, D] float64, on standardised inputs
    intercept: np.ndarray  # [R, S] float64
    logit: np.ndarray  # [R, S, N] float64, scores of all N rows, those outside the training set too
    gradient_norm: np.ndarray  # [R, S] float64, of the objective at `coef`
    iterations: np.ndarray  # [R, S] int


def solve_logistic(
    X: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    Cs: Sequence[float],
    *,
    balanced: bool = False,
    tolerance: float | None = None,
    max_iter: int = 1000,
    device: str | None = None,
) -> Solutions:
    """Fit logistic regression on inputs standardised by each training set, for every training set and every C.

    X [N, D] float32 or float64, y [N] of 0 and 1, train [R, N] bool, Cs [S] as in scikit-learn: each problem is
    `StandardScaler` and `LogisticRegression(C=C)` on its training rows. Other rows have no influence and are scored.
    `balanced`: with `class_weight="balanced"`, so that both labels weigh alike and log-odds are about even ones.

    With the intercept at its best, the objective is 1-strongly convex in the coefficients w, so that
    ‖w − w*‖ ≤ ‖gradient‖. A problem counts as solved when ‖gradient‖ ≤ tolerance × ‖w‖: no coefficient vector is
    further from the optimum than that share of its length, as far as the gradient is exact in the dtype used.

    Large float32 inputs are worked on in float32, all others in float64, and problems that float32 cannot bring to
    the tolerance are finished in float64. `tolerance` is 5e-4 in float32 and 1e-6 in float64 where it is not given.
    `device` None: numpy; "cpu" or "cuda": torch on that device.

    Raises ValueError for inputs that do not fit together, and for a training set of one class. Warns (scikit-learn's
    ConvergenceWarning) of problems not solved in `max_iter` iterations.
    """
    return _solve(LOGISTIC, X, y, train, Cs, tolerance, max_iter, device, balanced)


def solve_ridge(
    X: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    Cs: Sequence[float],
    *,
    tolerance: float | None = None,
    max_iter: int = 1000,
    device: str | None = None,
) -> Solutions:
    """Fit least squares on targets -1 and +1: `StandardScaler` and `RidgeClassifier(alpha=1 / C)`.

    The intercept is unpenalised. All else is as in `solve_logistic`; `logit` holds the predicted targets, which are
    not log-odds.
    """
    return _solve(SQUARED, X, y, train, Cs, tolerance, max_iter, device)


def difference_of_means(X: np.ndarray, y: np.ndarray, train: np.ndarray) -> Solutions:
    """Return the direction from the mean of label 0 to that of label 1 on standardised inputs, S = 1.

    Marks & Tegmark 2023 (arXiv 2310.06824), who call it the mass-mean probe. The score is 0 half way between the means.
    """
    X, y, train = _check(X, y, train)
    found = moments(X, train)
    means = [(moments(X, train & (y == label)).mean - found.mean) / found.scale for label in (0, 1)]  # [R, D] each
    coef = np.where(found.constant, 0.0, means[1] - means[0])
    intercept = -0.5 * ((means[0] + means[1]) * coef).sum(axis=1)  # [R]
    dtype = _dtype(X)
    design = ScaledInputs.of(X, found, dtype, np, None)
    logit = design.logits(coef.astype(dtype), np.arange(len(train))) + intercept[:, None]
    return Solutions(
        mean=found.mean,
        scale=found.scale,
        coef=coef[:, None],
        intercept=intercept[:, None],
        logit=logit[:, None].astype(np.float64),
        gradient_norm=np.zeros((len(train), 1)),
        iterations=np.zeros((len(train), 1), dtype=int),
    )


def _solve(
    loss: Loss,
    X: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    Cs: Sequence[float],
    tolerance: float | None,
    max_iter: int,
    device: str | None,
    balanced: bool = False,
) -> Solutions:
    X, y, train = _check(X, y, train)
    weight = _balanced(y, train) if balanced else train  # [R, N]
    strengths = np.asarray(Cs, dtype=np.float64)  # [S]
    if strengths.ndim != 1 or not len(strengths) or not (strengths > 0).all() or not np.isfinite(strengths).all():
        raise ValueError(f"Cs must be positive numbers, not {Cs!r}")
    found = moments(X, train)
    sets, C = np.repeat(np.arange(len(train)), len(strengths)), np.tile(strengths, len(train))  # [F]
    share = (weight * (y == 1)).sum(axis=1) / weight.sum(axis=1)  # [R]
    work = _Work(loss=loss, X=X, y=y, weight=weight, sets=sets, C=C, moments=found, max_iter=max_iter, device=device)
    every = np.arange(len(sets))
    dtype = _dtype(X)
    limit = TOLERANCE[dtype] if tolerance is None else tolerance
    start = np.zeros((len(sets), X.shape[1])), loss.constant_score(share)[sets]
    with threadpool_limits(1 if X.size <= _SMALL else None, user_api="blas"):  # threads cost small products more
        optima, score = work.minimise(every, *start, dtype, limit)
        rest = np.flatnonzero(~optima.converged)
        if dtype == "float32" and len(rest):
            finished, score[rest] = work.minimise(rest, optima.coef[rest], optima.intercept[rest], "float64", limit)
            _replace(optima, rest, finished)
    optima.coef[found.constant[sets]] = 0  # they touch no score; the preconditioner had mixed them in
    _warn_of_unsolved(optima, sets, C)
    shape = (len(train), len(strengths))
    return Solutions(
        mean=found.mean,
        scale=found.scale,
        coef=optima.coef.reshape(*shape, -1),
        intercept=optima.intercept.reshape(shape),
        logit=(score + optima.intercept[:, None]).reshape(*shape, -1),
        gradient_norm=optima.gradient_norm.reshape(shape),
        iterations=optima.iterations.reshape(shape),
    )


@dataclass(frozen=True, kw_only=True)
class _Work:
    """Inputs of the solver, without the dtype: two may have to be tried."""

    loss: Loss
    X: np.ndarray  # [N, D]
    y: np.ndarray  # [N]
    weight: np.ndarray  # [R, N] of each row in the training set, 0 outside
    sets: np.ndarray  # [F]
    C: np.ndarray  # [F]
    moments: Moments
    max_iter: int
    device: str | None

    def minimise(
        self, rest: np.ndarray, coef: np.ndarray, intercept: np.ndarray, dtype: str, tolerance: float
    ) -> tuple[Optima, np.ndarray]:
        """Return the optima of the problems `rest` [f], and their scores [f, N] without intercept.

        Problems that take long are solved one by one, with a factorisation of their own Hessian, renewed now
        and then.
        """
        xp, device = _namespace(self.device)

        def array(values: np.ndarray, kind: str = dtype) -> Any:
            return xp.asarray(values.astype(kind, copy=False), device=device)

        inputs = ScaledInputs.of(self.X, self.moments, dtype, xp, device)
        share = self.weight.mean(axis=0)  # [N] over the training sets
        sign = array(np.where(self.y == 1, 1.0, -1.0))
        pooled = preconditioner(inputs.X, array(share), xp)

        def run(some: np.ndarray, start: Optima, inverse: Preconditioner, rows: float, most: int) -> Optima:
            weight = array(self.weight[self.sets[some]] * self.C[some, None])  # [f, N]
            problems = Problems(sets=array(self.sets[some], "int64"), weight=weight, sign=sign)
            solver = Minimiser(inputs, self.loss, problems, inverse, rows, xp)
            begin = array(start.coef), array(start.intercept, "float64")
            return solver.run(*begin, tolerance, most, give_up=dtype == "float32")

        def own(one: int, start: Optima) -> tuple[Preconditioner, float]:
            row = array(self.sets[[one]], "int64")
            score = inputs.logits(array(start.coef), row) + array(start.intercept)[:, None]
            curvature = self.loss.terms(score, sign, xp).curvature[0] * array(self.weight[self.sets[one]])  # [N]
            return preconditioner(inputs.centre(row, curvature), curvature, xp), float(curvature.sum())

        optima = run(rest, Optima.at(coef, intercept), pooled, float(share.sum()), min(_TOGETHER, self.max_iter))
        for place in np.flatnonzero(~optima.converged & (optima.iterations == _TOGETHER)):
            here = np.array([place])
            while not optima.converged[place] and optima.iterations[place] < self.max_iter:
                start = optima.take(here)
                more = min(_ALONE, self.max_iter - int(optima.iterations[place]))
                _replace(optima, here, run(rest[here], start, *own(rest[place], start), more))
        sets = array(self.sets[rest], "int64")
        return optima, host(inputs.logits(array(optima.coef), sets)).astype(np.float64)


def _balanced(y: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return [R, N] weights that are the same in sum for both labels of each training set, and 1 on average."""
    ones = (train & (y == 1)).sum(axis=1, keepdims=True)  # [R, 1]
    rows = train.sum(axis=1, keepdims=True)
    return np.where(train, 0.5 * rows / np.where(y == 1, ones, rows - ones), 0.0)


def _replace(optima: Optima, rest: np.ndarray, finished: Optima) -> None:
    optima.coef[rest], optima.intercept[rest] = finished.coef, finished.intercept
    optima.gradient_norm[rest], optima.converged[rest] = finished.gradient_norm, finished.converged
    optima.iterations[rest] += finished.iterations


def _warn_of_unsolved(optima: Optima, sets: np.ndarray, C: np.ndarray) -> None:
    unsolved = np.flatnonzero(~optima.converged)
    if len(unsolved):
        worst = unsolved[np.argmax(optima.gradient_norm[unsolved])]
        warnings.warn(
            f"{len(unsolved)} of {len(C)} problems were not solved in {optima.iterations[worst]} iterations (worst: "
            f"training set {sets[worst]}, C = {C[worst]:g}, gradient norm {optima.gradient_norm[worst]:.2g}, "
            f"coefficient norm {np.linalg.norm(optima.coef[worst]):.2g}); raise max_iter or lower C",
            ConvergenceWarning,
            stacklevel=4,
        )


def _check(X: np.ndarray, y: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the three as arrays that fit together. Raises ValueError."""
    X, y, train = np.asarray(X), np.asarray(y), np.asarray(train)
    if X.ndim != 2 or X.dtype not in (np.float32, np.float64):
        raise ValueError(f"X is {X.dtype} {X.shape}; pass float32 or float64 [N, D]")
    if y.shape != (len(X),) or not np.isin(y, (0, 1)).all():
        raise ValueError(f"y has shape {y.shape}; pass 0 or 1 for each of {len(X)} rows of X")
    if train.dtype != bool or train.ndim != 2 or train.shape[1] != len(X) or not len(train):
        raise ValueError(f"train is {train.dtype} {train.shape}; pass bool [R, N] with N = {len(X)}")
    for number, rows in enumerate(train):
        classes = np.unique(y[rows])
        if len(classes) < 2:
            what = f"{rows.sum()} rows, all of label {classes[0]}" if len(classes) else "no rows"
            raise ValueError(f"training set {number} has {what}; leave it out")
    return X, y, train


def _dtype(X: np.ndarray) -> str:
    return "float32" if X.dtype == np.float32 and X.size > _SMALL else "float64"


def _namespace(device: str | None) -> tuple[Any, Any]:
    """Return the array library to compute with, and its device."""
    if device is None:
        return numpy_api, None
    import array_api_compat.torch as torch_api
    import torch

    return torch_api, torch.device(device)
