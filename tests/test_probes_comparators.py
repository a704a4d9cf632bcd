"""The simpler probes are scikit-learn estimators, score what they say, and are what the batch holds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from halp_probe.probes.fitting.comparators import DifferenceOfMeansProbe, RidgeProbe
from halp_probe.probes.fitting.estimators import LinearProbe, _masks, linear_probe
from halp_probe.probes.fitting.selection import best_candidate
from halp_probe.probes.fitting.solver import solve_logistic
from halp_probe.probes.fitting.splits import inner_splits


def data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """X [200, 6], y [200] of two names."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 200)
    X = rng.standard_normal((200, 6)) * [1, 10, 0.1, 1, 1, 1] + 3
    X[:, 1] += 8 * y
    return X, np.array(["right", "wrong"])[y]


@pytest.mark.parametrize("C", [1e-3, 1.0])
def test_ridge_scores_as_scikit_learns(C):
    X, y = data()
    oracle = make_pipeline(StandardScaler(), RidgeClassifier(alpha=1 / C)).fit(X, y)
    probe = RidgeProbe(C).fit(X, y)
    np.testing.assert_allclose(probe.decision_function(X), oracle.decision_function(X), atol=1e-5)
    assert (probe.predict(X) == oracle.predict(X)).all()


def test_difference_of_means_is_the_difference_of_means():
    X, y = data()
    probe = DifferenceOfMeansProbe().fit(X, y)
    inputs = StandardScaler().fit_transform(X)
    means = [inputs[y == name].mean(axis=0) for name in ("right", "wrong")]
    np.testing.assert_allclose(probe.coef_[0], means[1] - means[0], atol=1e-12)
    np.testing.assert_allclose(probe.decision_function(X), (inputs - (means[0] + means[1]) / 2) @ probe.coef_[0])
    assert (probe.predict(X) == y).mean() > 0.6


@pytest.mark.parametrize("probe", [DifferenceOfMeansProbe(), RidgeProbe(), LinearProbe(Cs=(0.1,))])
def test_probabilities_are_the_sigmoid_of_the_score(probe):
    X, y = data()
    risk = probe.fit(X, y).predict_proba(X)
    np.testing.assert_allclose(risk[:, 1], 1 / (1 + np.exp(-probe.decision_function(X))))
    np.testing.assert_allclose(risk.sum(axis=1), 1)


def test_a_probe_out_of_a_batch_is_the_probe_fitted_alone():
    X, names = data()
    y = (names == "wrong").astype(int)
    template = LinearProbe(Cs=(1e-3, 1e-1))
    fitted = LinearProbe(Cs=(1e-3, 1e-1)).fit(X, y)
    splits = inner_splits(y, None, 3, 0)
    found = solve_logistic(X, y, _masks(splits, len(y)), template.Cs)
    choice = best_candidate(found.logit[:-1], y, [split.test for split in splits])
    taken = linear_probe(found, 3, choice.index, template, choice.auroc)
    assert vars(taken).keys() == vars(fitted).keys()
    for name in ("mean_", "scale_", "coef_", "intercept_", "inner_scores_", "classes_", "C_"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(fitted, name))
    assert not hasattr(template, "coef_")
    found.coef[:] = 0  # the probe holds numbers of its own
    np.testing.assert_array_equal(taken.predict(X), fitted.predict(X))


def test_the_best_candidate_by_hand():
    """Test rows are 0-3 and 4-7; candidates: one swap, none with small log-odds, none with large ones."""
    y = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    right = np.where(y == 1, 1.0, -1.0)
    swapped = right.copy()
    swapped[[0, 1]] = [1, -1]
    logits = np.stack([np.stack([swapped, 0.1 * right, 3 * right])] * 2)
    logits[0, :, 4:] = np.nan  # trained on these
    choice = best_candidate(logits, y, [np.arange(4), np.arange(4, 8)])
    assert choice.index == 2
    np.testing.assert_allclose(choice.auroc, [(0.5 + 1) / 2, 1, 1])


@pytest.mark.parametrize(
    ("tests", "message"), [([], "at least one"), ([np.arange(2)] * 2, "one for each"), ([np.array([0, 2])], "split 0")]
)
def test_a_choice_needs_splits_of_both_classes(tests, message):
    with pytest.raises(ValueError, match=message):
        best_candidate(np.zeros((1, 2, 3)), np.array([0, 1, 0]), tests)
