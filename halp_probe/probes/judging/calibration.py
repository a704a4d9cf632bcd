"""Calibration of a probe's log-odds to a risk that means a frequency.

It is fitted on out-of-fold scores: those of the training rows would promise too much. Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from halp_probe.probes.errors import ProbeError
from halp_probe.probes.names import NONE, PLATT, RISKS

KINDS = RISKS


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
        if kind == NONE:
            return cls()
        scores, y = check_scores(log_odds, y, "log-odds")
        if len(np.unique(y)) < 2:
            raise ProbeError(f"all {len(y)} rows have label {int(y[0])}: a risk is calibrated on both classes")
        return _platt(scores, y) if kind == PLATT else _isotonic(scores, y)

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


def check_scores(scores: np.ndarray, y: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return scores [N] float64 and labels [N]. Raises ProbeError for what is not finite, not 0 or 1, or no pair."""
    scores, y = np.asarray(scores, dtype=np.float64), np.asarray(y)
    if scores.ndim != 1 or scores.shape != y.shape or not len(y):
        raise ProbeError(f"{what} have shape {scores.shape} and labels {y.shape}; pass one of each a row")
    missing = int((~np.isfinite(scores)).sum())
    if missing:
        raise ProbeError(f"{missing} of {len(y)} {what} are not finite; leave out the rows of folds that had no probe")
    if not np.isin(y, (0, 1)).all():
        raise ProbeError("labels must be 0 (right) or 1 (hallucinated); leave out rows without a label")
    return scores, y
