"""Candidate thresholds of a promise, fixed before any row is looked at."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from halp_probe.probes.errors import ProbeError

_CANDIDATES = 20


def candidates(max_error: float) -> np.ndarray:
    """Return [20] rising thresholds that depend on `max_error` and not on the rows; the last is 1.

    The guarantee needs fixed candidates. They are even in log-odds from half of `max_error`: of calibrated risks,
    those up to `max_error` have no higher error rate.
    """
    end = logit(max_error / 2)
    return np.append(expit(np.linspace(end, -end, _CANDIDATES - 1)), 1.0)


def check_promise(max_error: float, confidence: float) -> None:
    """Raise ProbeError unless both are shares between 0 and 1."""
    if not 0 < max_error < 1 or not 0 < confidence < 1:
        raise ProbeError(f"max_error {max_error} and confidence {confidence} must lie between 0 and 1")
