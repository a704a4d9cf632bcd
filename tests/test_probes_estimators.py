"""The linear probe is a scikit-learn estimator, and fits what scikit-learn would fit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from halp_probe.probes.fitting.comparators import DifferenceOfMeansProbe, RidgeProbe
from halp_probe.probes.fitting.estimators import LinearProbe
from halp_probe.probes.fitting.splits import inner_splits


@parametrize_with_checks([LinearProbe(), DifferenceOfMeansProbe(), RidgeProbe()])
def test_is_a_scikit_learn_estimator(estimator, check):
    check(estimator)


def data(n: int = 300, width: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X [n, width] float32 of unequal scales, y [n], groups [n]."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    X = rng.standard_normal((n, width)) * np.exp(rng.standard_normal(width)) + 5
    X[:, 0] += X[:, 0].std() * y
    return X.astype(np.float32), y, np.arange(n) // 3


def test_the_solution_is_scikit_learns_at_the_chosen_C():
    X, y, groups = data()
    probe = LinearProbe().fit(X, y, groups)
    oracle = make_pipeline(StandardScaler(), LogisticRegression(C=probe.C_, tol=1e-8, max_iter=1000)).fit(
        X.astype(float), y
    )
    np.testing.assert_allclose(probe.coef_, oracle[-1].coef_, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(probe.predict_proba(X), oracle.predict_proba(X.astype(float)), atol=1e-5)
    assert (probe.predict(X) == oracle.predict(X)).all()


def test_inner_scores_are_those_of_fresh_fits():
    X, y, groups = data()
    X = X.astype(float)
    probe = LinearProbe().fit(X, y, groups)
    aurocs, losses = [], []
    for C in probe.Cs:
        inner = []
        for split in inner_splits(y, groups, 3, 0):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-8, max_iter=1000))
            risk = model.fit(X[split.train], y[split.train]).predict_proba(X[split.test])[:, 1]
            inner.append((roc_auc_score(y[split.test], risk), log_loss(y[split.test], risk)))
        aurocs.append(np.mean([a for a, _ in inner]))
        losses.append(np.mean([b for _, b in inner]))
    np.testing.assert_allclose(probe.inner_scores_, aurocs, atol=1e-9)
    assert probe.Cs[np.argmax(probe.inner_scores_)] == probe.C_


def test_of_equal_aurocs_the_lower_log_loss_wins():
    """Perfectly separable: every C ranks the same, and the weakest penalty has the lowest loss."""
    X = np.repeat([-1.0, 1.0], 30)[:, None]
    probe = LinearProbe().fit(X, np.repeat([0, 1], 30))
    assert (probe.inner_scores_ == 1).all()
    assert max(probe.Cs) == probe.C_


@pytest.mark.parametrize("n", [4, 5])
def test_too_few_rows_to_choose_fall_back_to_the_stated_C(n):
    probe = LinearProbe(fallback_C=0.03).fit(np.random.default_rng(0).standard_normal((n, 3)), np.arange(n) % 2)
    assert probe.C_ == 0.03
    assert np.isnan(probe.inner_scores_).all()


def test_groups_reach_the_inner_splits():
    """Vectors that name the image alone: row-wise inner splits praise them, splits by image do not."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 5)
    X = rng.standard_normal((60, 40))[groups]
    y = rng.integers(0, 2, 60)[groups]
    assert LinearProbe().fit(X, y).inner_scores_.max() > 0.9
    assert LinearProbe().fit(X, y, groups).inner_scores_.max() < 0.7


def test_constant_and_huge_features_do_no_harm():
    X, y, _ = data()
    X = np.column_stack([X, np.full(len(X), 1e6), X[:, 1] * 1e4]).astype(np.float32)
    probe = LinearProbe().fit(X, y)
    assert probe.scale_[-2] == 1
    assert np.isfinite(probe.decision_function(X)).all()
    assert roc_auc_score(y, probe.decision_function(X)) > 0.65


def test_probabilities_of_extreme_log_odds_are_exact():
    probe = LinearProbe(Cs=(1e4,)).fit(np.repeat([-1.0, 1.0], 30)[:, None], np.repeat([0, 1], 30))
    with np.errstate(over="raise"):
        np.testing.assert_allclose(probe.predict_proba([[-1e5], [1e5]]), [[1, 0], [0, 1]], atol=1e-300)


def test_wrong_groups_are_refused():
    X, y, groups = data()
    with pytest.raises(ValueError, match="one group for each row"):
        LinearProbe().fit(X, y, groups[1:])
