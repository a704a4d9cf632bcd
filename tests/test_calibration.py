"""Calibrated risks are frequencies and never fall with the score; thresholds are those that trying all would find."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from halp_probe.bootstrap import Draws
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.judging.calibration import KINDS, Calibration
from halp_probe.probes.judging.thresholds import threshold_for


def drawn(n: int, slope: float, intercept: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds, and labels whose true risk is a logistic curve of them."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 3, n)
    return logit, (rng.random(n) < expit(slope * logit + intercept)).astype(int)


def platt_loss(parameters: np.ndarray, logit: np.ndarray, y: np.ndarray) -> float:
    """Cross-entropy against Platt's targets."""
    positives = y.sum()
    target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (len(y) - positives + 2))
    z = parameters[0] * logit + parameters[1]
    return float((np.logaddexp(0, z) - target * z).mean())


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_a_known_curve_is_found(kind: str) -> None:
    logit, y = drawn(20_000, 0.4, -1.0)
    calibration = Calibration.fit(kind, logit, y)
    at = np.linspace(-6, 6, 25)
    assert np.abs(calibration(at) - expit(0.4 * at - 1.0)).max() < (0.02 if kind == "platt" else 0.08)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_platt_is_the_optimum_over_rising_curves(seed: int, scale: float) -> None:
    logit, y = drawn(80, [0.5, 0.1, 0.0, -0.1, -0.5][seed], 0.3, seed)
    calibration = Calibration.fit("platt", logit * scale, y)
    best = minimize(platt_loss, [0.1, 0.0], (logit, y), bounds=[(0, None), (None, None)], options={"ftol": 1e-15})
    ours = platt_loss(np.array([calibration.slope * scale, calibration.intercept]), logit, y)
    assert calibration.slope >= 0 and ours <= best.fun + 1e-9


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_a_probe_that_knows_nothing_gets_one_risk(kind: str) -> None:
    logit, y = np.linspace(-5, 5, 400), np.repeat([1, 0], [100, 300])  # the wrong way round
    calibration = Calibration.fit(kind, logit, y)
    assert calibration(logit) == pytest.approx(np.full(400, 0.25), abs=0.01)
    constant = Calibration.fit("platt", np.ones(400), y)
    assert constant(logit) == pytest.approx(np.full(400, 0.25), abs=0.01)


def test_classes_that_a_score_parts_stay_below_certainty() -> None:
    risk = Calibration.fit("platt", np.array([-2.0, -1, 1, 2]), np.array([0, 0, 1, 1]))(np.array([-2.0, 2]))
    assert 0.1 < risk[0] < 0.3 and 0.7 < risk[1] < 0.9  # Platt's targets for two rows each: 1/4 and 3/4


def test_isotonic_is_scikit_learns() -> None:
    logit, y = drawn(300, 0.5, 0.0, 4)
    reference = IsotonicRegression(out_of_bounds="clip").fit(logit, y)
    at = np.concatenate([logit, np.linspace(-20, 20, 501)])
    assert Calibration.fit("isotonic", logit, y)(at) == pytest.approx(reference.predict(at), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_risks_never_fall_and_stay_within_0_and_1(kind: str) -> None:
    logit, y = drawn(200, 0.7, 0.2, 1)
    calibration = Calibration.fit(kind, logit, y)
    risk = calibration(np.linspace(-1000, 1000, 3001))
    assert (np.diff(risk) >= 0).all() and risk.min() >= 0 and risk.max() <= 1
    again = Calibration.from_json(json.loads(json.dumps(calibration.as_json())))
    assert again == calibration and (again(logit) == calibration(logit)).all()


def test_what_cannot_be_calibrated_is_refused() -> None:
    logit, y = drawn(20, 1.0, 0.0)
    with pytest.raises(ProbeError, match="no calibration 'beta'"):
        Calibration.fit("beta", logit, y)
    with pytest.raises(ProbeError, match="all 20 rows have label 1"):
        Calibration.fit("platt", logit, np.ones(20))
    with pytest.raises(ProbeError, match="1 of 20 log-odds are not finite"):
        Calibration.fit("isotonic", np.append(logit[1:], np.nan), y)
    with pytest.raises(ProbeError, match=r"shape \(20,\) and labels \(19,\)"):
        Calibration.fit("platt", logit, y[1:])
    with pytest.raises(ProbeError, match="labels must be 0"):
        threshold_for(logit, y * 2, np.arange(20), 0.1, Draws(count=10, seed=0))
