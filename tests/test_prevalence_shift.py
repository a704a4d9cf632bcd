"""Risks that are true at one share of wrong answers are not at another, and the correction makes them true again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from halp_probe.probes.judging.prevalence_shift import correct_for_prevalence, prevalence_shift

RNG = np.random.default_rng(0)


def rows(prevalence: float, n: int = 60_000) -> tuple[np.ndarray, np.ndarray]:
    """Score and label: normal scores, a unit and a half apart, whatever the prevalence."""
    y = (RNG.random(n) < prevalence).astype(int)
    return RNG.standard_normal(n) + 1.5 * y, y


def true_risk(score: np.ndarray, prevalence: float) -> np.ndarray:
    """Bayes' rule for two normal classes."""
    return expit(1.5 * score - 1.5**2 / 2 + np.log(prevalence / (1 - prevalence)))


@pytest.mark.parametrize("new", [0.05, 0.2, 0.5])
def test_the_correction_is_bayes_rule(new: float) -> None:
    score, _ = rows(0.1, 500)
    corrected = correct_for_prevalence(true_risk(score, 0.1), 0.1, new)
    np.testing.assert_allclose(corrected, true_risk(score, new), rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_reweighted_rows_are_like_rows_of_that_prevalence(factor: float) -> None:
    """The oracle is new data with so many wrong answers."""
    score, y = rows(0.1)
    found = prevalence_shift(true_risk(score, 0.1), y, factor)
    assert found.prevalence == pytest.approx(factor * y.mean())
    new_score, new_y = rows(found.prevalence)
    assert found.as_they_are.mean_risk == pytest.approx(true_risk(new_score, 0.1).mean(), abs=0.004)
    assert found.corrected.mean_risk == pytest.approx(new_y.mean(), abs=0.004)
    assert found.corrected.slope == pytest.approx(1, abs=0.05) and found.as_they_are.slope == pytest.approx(1, abs=0.05)
    assert found.corrected.ece < 0.008 < 0.02 < found.as_they_are.ece


def test_a_risk_that_knows_nothing_has_no_slope_and_a_high_prevalence_stays_below_one() -> None:
    y = np.repeat([0, 1], [30, 70])
    found = prevalence_shift(np.full(100, 0.7), y, 2.0)
    assert np.isnan(found.as_they_are.slope) and found.prevalence == pytest.approx(0.85)
    assert found.corrected.mean_risk == pytest.approx(0.85)
