"""Calibrated risks where label 1 is commoner or rarer than in the rows that they were calibrated on.

Legend: N rows.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from halp_probe.probes.judging.measures import MEASURES

FACTORS = (0.5, 2.0)  # of the share of label 1
_SURE = 1e-6  # risks are kept this far from 0 and 1, for their log-odds


@dataclass(frozen=True, kw_only=True)
class RiskFit:
    """Agreement of risks with what happens; `slope` is 1 where log-odds rise as the risks say, nan if all are one."""

    mean_risk: float
    slope: float
    ece: float


@dataclass(frozen=True, kw_only=True)
class PrevalenceShift:
    """Risks on the same rows, reweighted so that label 1 has another share, as they are and corrected for it."""

    prevalence: float  # the share of label 1 that the weights give
    as_they_are: RiskFit
    corrected: RiskFit


def correct_for_prevalence(risk: np.ndarray, trained: float, new: float) -> np.ndarray:
    """Return risks [N] for data in which label 1 has the share `new` and not `trained`, as in the rows of calibration.

    The log-odds move by those of `new` less those of `trained` (Saerens, Latinne & Decaestecker 2002): exact where the
    new rows of either label are like the old ones and only their numbers differ.
    """
    return expit(_log_odds(risk) + logit(new) - logit(trained))


def prevalence_shift(risk: np.ndarray, y: np.ndarray, factor: float) -> PrevalenceShift:
    """Judge risks [N] in 0 … 1 of rows `y` [N] of 0 and 1, both present, with `factor` times the share of label 1.

    The share stays below one half of what is left to 1, so that a factor of 2 has a meaning at any prevalence.
    """
    old = float(y.mean())
    new = float(min(factor * old, (1 + old) / 2))
    weight = np.where(y == 1, new / old, (1 - new) / (1 - old))  # [N]
    corrected = correct_for_prevalence(risk, old, new)
    return PrevalenceShift(prevalence=new, as_they_are=_fit(risk, y, weight), corrected=_fit(corrected, y, weight))


def _fit(risk: np.ndarray, y: np.ndarray, weight: np.ndarray) -> RiskFit:
    score = _log_odds(risk)
    slope = np.nan
    if score.std() > 1e-9:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            slope = float(LogisticRegression(C=np.inf).fit(score[:, None], y, sample_weight=weight).coef_[0, 0])
    return RiskFit(
        mean_risk=float(np.average(risk, weights=weight)),
        slope=slope,
        ece=float(MEASURES["ece"](risk, y, weight[None])[0]),
    )


def _log_odds(risk: np.ndarray) -> np.ndarray:
    return logit(np.clip(risk, _SURE, 1 - _SURE))
