"""Calibration of a probe's log-odds to a risk that means a frequency, and thresholds of risk below which to answer.

Both are fitted on out-of-fold scores: those of the training rows would promise too much. Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from halp_probe.probes.errors import ProbeError

KINDS = ("platt", "isotonic", "none")


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Map from log-odds to risk that never falls.

    `platt` is a logistic curve with a slope of 0 or more (Platt 1999), `isotonic` the best of all rising maps (Zadrozny
    and Elkan 2002), straight between its knots and level beyond them; `none` takes the log-odds at their word.
    """

    kind: str = "none"
    slope: float = 1.0  # of platt
    intercept: float = 0.0  # of platt
    knots_logit: tuple[float, ...] = ()  # of isotonic, rising
    knots_risk: tuple[float, ...] = ()  # of isotonic, one for each

    @classmethod
    def fit(cls, kind: str, log_odds: np.ndarray, y: np.ndarray) -> Calibration:
        """Fit to `log_odds` [N] float of rows that the scoring probe was not fitted on, and `y` [N] of 0 and 1.

        Raises ProbeError for an unknown kind, for log-odds that are not finite and for one class only.
        """
        if kind not in KINDS:
            raise ProbeError(f"there is no calibration {kind!r}; choose among {', '.join(KINDS)}")
        if kind == "none":
            return cls()
        scores, y = _check(log_odds, y, "log-odds")
        if len(np.unique(y)) < 2:
            raise ProbeError(f"all {len(y)} rows have label {int(y[0])}: a risk is calibrated on both classes")
        return _platt(scores, y) if kind == "platt" else _isotonic(scores, y)

    def __call__(self, log_odds: np.ndarray) -> np.ndarray:
        """Return [N] float64 risks between 0 and 1."""
        if self.kind == "isotonic":
            return np.interp(log_odds, self.knots_logit, self.knots_risk)
        return expit(self.slope * np.asarray(log_odds, dtype=np.float64) + self.intercept)

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes; plain numbers, so that they come back to the last bit."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Calibration:
        """Restore from `as_json`. Raises ValueError or TypeError for anything else."""
        values: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in stored.items()}
        found = cls(**values)
        if found.kind not in KINDS:
            raise ValueError(f"there is no calibration {found.kind!r}")
        if len(found.knots_logit) != len(found.knots_risk) or (found.kind == "isotonic") != bool(found.knots_logit):
            raise ValueError(f"a calibration of kind {found.kind} with {len(found.knots_logit)} knots")
        if not np.isfinite([found.slope, found.intercept, *found.knots_logit, *found.knots_risk]).all():
            raise ValueError("a calibration with a number that is not finite")
        return found


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Highest risk at which to answer a question; nan where no threshold was found, and `reason` says why.

    `coverage` and `error` are from the rows that it was chosen on: the share answered, and the share of wrong
    answers among them. Without a `confidence` they promise nothing for other rows. A threshold below every risk
    answers nothing and has no error (nan).
    """

    risk: float
    coverage: float
    error: float
    rows: int
    max_error: float | None = None  # what was wanted: an error rate among the answered, …
    min_coverage: float | None = None  # … or a share of questions to answer
    confidence: float | None = None  # that `max_error` holds on new images; None = no guarantee
    reason: str = ""

    @property
    def found(self) -> bool:
        """True if there is a threshold."""
        return bool(np.isfinite(self.risk))

    @property
    def words(self) -> str:
        """Coverage and error on the rows that it was chosen on, in words, or why there is no threshold."""
        if not self.found:
            return f"no threshold keeps the error rate at {self.max_error:g}: {self.reason}"
        wrong = f"{self.error:.2%} of them wrong here"
        return f"answer up to risk {self.risk:.4g}: {self.coverage:.1%} of {self.rows} questions, {wrong}"

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Threshold:
        """Restore from JSON, where null stands for nan."""
        numbers = {name: np.nan if stored[name] is None else stored[name] for name in ("risk", "coverage", "error")}
        return cls(**{**stored, **numbers})


def threshold_for(risk: np.ndarray, y: np.ndarray, max_error: float) -> Threshold:
    """Return the highest threshold at which at most `max_error` of the answered questions are wrong; both arrays [N].

    It is picked on the rows that it is judged by, so on other rows the error will be a little higher. Raises ProbeError
    for risks that are not finite.
    """
    levels = _levels(risk, y)
    fitting = np.flatnonzero(levels.error <= max_error)
    if not len(fitting):
        reason = f"the {levels.least_risky} least risky questions have {levels.error[0]:.3f} of their answers wrong"
        return Threshold(risk=np.nan, coverage=0.0, error=np.nan, rows=levels.rows, max_error=max_error, reason=reason)
    return replace(levels.threshold(int(fitting[-1])), max_error=max_error)


def threshold_for_coverage(risk: np.ndarray, y: np.ndarray, min_coverage: float) -> Threshold:
    """Return the lowest threshold that answers at least `min_coverage` of the questions; both arrays [N]."""
    levels = _levels(risk, y)
    return replace(levels.threshold(int(np.argmax(levels.coverage >= min_coverage))), min_coverage=min_coverage)


@dataclass(frozen=True, kw_only=True)
class _Levels:
    """Coverage and error of answering at or below each distinct risk; arrays have one entry a distinct risk, rising."""

    between: np.ndarray  # halfway to the next risk, so that rounding moves no row across; 1 after the last
    coverage: np.ndarray
    error: np.ndarray
    rows: int

    @property
    def least_risky(self) -> int:
        return round(float(self.coverage[0]) * self.rows)

    def threshold(self, level: int) -> Threshold:
        return Threshold(
            risk=float(self.between[level]),
            coverage=float(self.coverage[level]),
            error=float(self.error[level]),
            rows=self.rows,
        )


def _levels(risk: np.ndarray, y: np.ndarray) -> _Levels:
    risk, y = _check(risk, y, "risks")
    order = np.argsort(risk, kind="stable")
    ordered = risk[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # the last row of each distinct risk
    answered = last + 1
    distinct = ordered[last]
    return _Levels(
        between=np.append((distinct[:-1] + distinct[1:]) / 2, 1.0),
        coverage=answered / len(risk),
        error=np.cumsum(y[order])[last] / answered,
        rows=len(risk),
    )


def _platt(scores: np.ndarray, y: np.ndarray) -> Calibration:
    """Maximise the likelihood of Platt's targets, which keep the slope finite where a score separates the classes.

    Where the likelihood would fall with the score, its maximum over slopes of 0 or more is the constant rate.
    """
    positives = int(y.sum())
    target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (len(y) - positives + 2))  # [N]
    constant = Calibration(kind="platt", slope=0.0, intercept=float(logit(target.mean())))
    centre, spread = scores.mean(), scores.std()
    if spread <= 1e-12 * max(1.0, np.abs(scores).max()):
        return constant
    column = ((scores - centre) / spread)[:, None]
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10, max_iter=1000)
    model.fit(
        np.concatenate([column, column]),
        np.repeat([1, 0], len(y)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    slope = float(model.coef_[0, 0] / spread)
    return (
        Calibration(kind="platt", slope=slope, intercept=float(model.intercept_[0] - slope * centre))
        if slope > 0
        else constant
    )


def _isotonic(scores: np.ndarray, y: np.ndarray) -> Calibration:
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(scores, y)
    logits, risks = (tuple(map(float, values)) for values in (fitted.X_thresholds_, fitted.y_thresholds_))
    return Calibration(kind="isotonic", knots_logit=logits, knots_risk=risks)


def _check(scores: np.ndarray, y: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    scores, y = np.asarray(scores, dtype=np.float64), np.asarray(y)
    if scores.ndim != 1 or scores.shape != y.shape or not len(y):
        raise ProbeError(f"{what} have shape {scores.shape} and labels {y.shape}; pass one of each a row")
    missing = int((~np.isfinite(scores)).sum())
    if missing:
        raise ProbeError(f"{missing} of {len(y)} {what} are not finite; leave out the rows of folds that had no probe")
    if not np.isin(y, (0, 1)).all():
        raise ProbeError("labels must be 0 (right) or 1 (hallucinated); leave out rows without a label")
    return scores, y
