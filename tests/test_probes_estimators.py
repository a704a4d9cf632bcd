"""Both probes are scikit-learn estimators, and fit what scikit-learn and torch would fit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from halp_probe.probes.comparators import DifferenceOfMeansProbe, RidgeProbe
from halp_probe.probes.estimators import LinearProbe
from halp_probe.probes.mlp import MLPProbe, _batches, _folded, _network
from halp_probe.probes.splits import inner_splits

SMALL_MLP = {"hidden_sizes": (16, 8), "max_epochs": 30}


@parametrize_with_checks([LinearProbe(), DifferenceOfMeansProbe(), RidgeProbe(), MLPProbe(**SMALL_MLP)])
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


@pytest.mark.parametrize("make", [LinearProbe, lambda: MLPProbe(**SMALL_MLP)])
def test_constant_and_huge_features_do_no_harm(make):
    X, y, _ = data()
    X = np.column_stack([X, np.full(len(X), 1e6), X[:, 1] * 1e4]).astype(np.float32)
    probe = make().fit(X, y)
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


def test_mlp_learns_what_a_line_cannot():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 2))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    probe = MLPProbe(hidden_sizes=(32, 16), max_epochs=40).fit(X[:400], y[:400])
    assert roc_auc_score(y[400:], probe.predict_proba(X[400:])[:, 1]) > 0.9
    assert 1 <= probe.n_epochs_ <= 40


def test_mlp_keeps_the_weights_of_its_best_epoch():
    X, y, groups = data(200)
    stopped = MLPProbe(hidden_sizes=(16, 8), max_epochs=40, patience=3).fit(X, y, groups)
    assert stopped.n_epochs_ < 37
    best = MLPProbe(hidden_sizes=(16, 8), max_epochs=stopped.n_epochs_).fit(X, y, groups)
    assert (best.predict_proba(X) == stopped.predict_proba(X)).all()


def test_mlp_leaves_torch_as_it_was_and_repeats_itself():
    import torch

    X, y, groups = data(90)
    torch.manual_seed(1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    first = MLPProbe(**SMALL_MLP).fit(X, y, groups).predict_proba(X)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
    torch.manual_seed(2)
    assert (MLPProbe(**SMALL_MLP).fit(X, y, groups).predict_proba(X) == first).all()
    assert (MLPProbe(**SMALL_MLP, random_state=5).fit(X, y, groups).predict_proba(X) != first).any()


def test_mlp_without_torch_scores_as_torch_in_evaluation():
    import torch

    torch.manual_seed(0)
    network = _network(5, (7, 6), 0.3)
    for _ in range(20):  # moves BatchNorm's running statistics away from 0 and 1
        network(torch.randn(16, 5) * 3 + 1)
    network.eval()
    probe = MLPProbe((7, 6))
    probe.coefs_, probe.intercepts_ = _folded(network)
    probe.mean_, probe.scale_, probe.n_features_in_ = np.zeros(5), np.ones(5), 5
    X = torch.randn(10, 5)
    expected = network(X)[:, 0].detach().numpy()
    np.testing.assert_allclose(probe.decision_function(X.numpy()), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("n", "size", "sizes"), [(65, 32, [32, 33]), (66, 32, [32, 32, 2]), (3, 1, [1, 2]), (1, 4, [1])]
)
def test_no_batch_of_one_row(n, size, sizes):
    batches = _batches(n, size)
    assert [len(batch) for batch in batches] == sizes
    assert sorted(int(row) for batch in batches for row in batch) == list(range(n))
