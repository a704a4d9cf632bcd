"""Every solution of a batch is scikit-learn's optimum of that problem alone."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

import halp_probe.probes.fitting.solver as solver
from halp_probe.probes.fitting.scaling import moments
from halp_probe.probes.fitting.solver import difference_of_means, solve_logistic, solve_ridge

pytestmark = pytest.mark.slow

SEED = st.integers(0, 10**6)


@dataclass(frozen=True)
class Drawn:
    X: np.ndarray  # [N, D] float64 or float32
    y: np.ndarray  # [N]
    train: np.ndarray  # [R, N]


def drawn(
    seed: int,
    n: int = 120,
    width: int = 7,
    *,
    decay: float = 1.0,
    units: float = 1.0,
    offset: float = 1.0,
    strength: float = 1.5,
    positives: float = 0.4,
    sets: int = 3,
    dtype: type = np.float64,
) -> Drawn:
    """Correlated features with variances k^-2decay in units e^(units · normal), `offset` deviations from zero."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, width)) * np.arange(1.0, width + 1) ** -decay
    X = latent @ np.linalg.qr(rng.standard_normal((width, width)))[0]
    X = (X + offset * rng.standard_normal(width) * X.std(axis=0)) * np.exp(units * rng.standard_normal(width))
    score = strength * latent[:, 0] + rng.logistic(size=n)
    y = (score > np.quantile(score, 1 - positives)).astype(int)
    train = rng.random((sets, n)) < 0.7
    for label in (0, 1):
        train[:, np.flatnonzero(y == label)[:2]] = True
    return Drawn(X.astype(dtype), y, train)


def standardised(problem: Drawn, r: int) -> np.ndarray:
    """[N, D] float64 by the training rows' scaler."""
    X = problem.X.astype(np.float64)
    return StandardScaler().fit(X[problem.train[r]]).transform(X)


def oracle(problem: Drawn, r: int, C: float) -> LogisticRegression:
    """The optimum to many digits, or an error."""
    X, y = standardised(problem, r)[problem.train[r]], problem.y[problem.train[r]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return LogisticRegression(C=C, solver="newton-cholesky", tol=1e-12, max_iter=500).fit(X, y)


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def assert_optimal(problem: Drawn, Cs: tuple[float, ...], **options: object) -> None:
    found = solve_logistic(problem.X, problem.y, problem.train, Cs, **options)
    for r, train in enumerate(problem.train):
        X = standardised(problem, r)
        for s, C in enumerate(Cs):
            best = oracle(problem, r, C)
            assert distance(found.coef[r, s], best.coef_[0]) < 1e-3
            np.testing.assert_allclose(found.intercept[r, s], best.intercept_[0], rtol=1e-3, atol=1e-3)
            risk = roc_auc_score(problem.y[train], best.decision_function(X[train]))
            assert abs(roc_auc_score(problem.y[train], found.logit[r, s][train]) - risk) < 2e-3
            expected = X @ found.coef[r, s] + found.intercept[r, s]
            np.testing.assert_allclose(found.logit[r, s], expected, rtol=1e-3, atol=2e-3 * np.abs(expected).max())


@settings(max_examples=60)
@given(
    seed=SEED,
    n=st.integers(12, 200),
    width=st.integers(1, 60),
    decay=st.floats(0, 2),
    units=st.floats(0, 6),
    offset=st.floats(0, 1e4),
    strength=st.floats(0, 20),
    positives=st.floats(0.1, 0.9),
    Cs=st.lists(st.sampled_from([1e-6, 1e-4, 1e-2, 1.0, 1e2]), min_size=1, max_size=3),
)
def test_every_solution_is_scikit_learns_optimum(seed, n, width, decay, units, offset, strength, positives, Cs):
    problem = drawn(seed, n, width, decay=decay, units=units, offset=offset, strength=strength, positives=positives)
    assert_optimal(problem, tuple(Cs))


@settings(max_examples=15)
@given(seed=SEED, n=st.integers(20, 200), width=st.integers(1, 60), C=st.sampled_from([1e-4, 1e-2, 1.0, 1e2, 1e4]))
def test_float32_arithmetic_reaches_the_optimum_too(seed, n, width, C):
    """Forced, since small inputs are worked on in float64."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver, "_SMALL", 0)
        assert_optimal(drawn(seed, n, width, offset=3.0, dtype=np.float32), (C,))


@pytest.mark.parametrize(("n", "width"), [(900, 640), (640, 900)])
def test_the_optimum_with_an_approximate_preconditioner(n, width):
    assert_optimal(drawn(0, n, width, dtype=np.float32), (1e-4, 1e-2, 1.0))


def test_separable_data_at_a_weak_penalty():
    assert_optimal(drawn(0, 100, 5, strength=1e4, positives=0.3), (1.0, 1e4))


def test_a_rare_class():
    assert_optimal(drawn(0, 400, 6, positives=0.011), (1e-4, 1.0, 1e2))


@pytest.mark.parametrize("solve", [solve_logistic, solve_ridge])
def test_a_batch_holds_what_each_problem_gives_alone(solve):
    problem, Cs = drawn(1, 150, 20), (1e-3, 1e-1, 10.0)
    batch = solve(problem.X, problem.y, problem.train, Cs)
    for r in range(len(problem.train)):
        for s, C in enumerate(Cs):
            alone = solve(problem.X, problem.y, problem.train[r : r + 1], (C,))
            assert distance(batch.coef[r, s], alone.coef[0, 0]) < 1e-5
            np.testing.assert_allclose(batch.logit[r, s], alone.logit[0, 0], atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "solve", [solve_logistic, solve_ridge, lambda X, y, train, _: difference_of_means(X, y, train)]
)
def test_rows_outside_a_training_set_have_no_influence(solve, dtype, monkeypatch):
    monkeypatch.setattr(solver, "_SMALL", 0)
    problem = drawn(2, 150, 20, dtype=dtype)
    changed, labels = problem.X.copy(), problem.y.copy()
    changed[~problem.train[0]] = 1e8
    labels[~problem.train[0]] ^= 1
    found = solve(problem.X, problem.y, problem.train[:1], (0.1,))
    other = solve(changed, labels, problem.train[:1], (0.1,))
    np.testing.assert_array_equal(found.mean, other.mean)
    assert distance(other.coef, found.coef) < 1e-4


def test_a_row_far_off_in_one_training_set_does_not_blur_the_others(monkeypatch):
    monkeypatch.setattr(solver, "_SMALL", 0)
    problem = drawn(3, 200, 10, dtype=np.float32)
    problem.train[:, 0] = [False, False, True]
    clean = solve_logistic(problem.X, problem.y, problem.train, (0.1,))
    problem.X[0] = 1e7
    blurred = solve_logistic(problem.X, problem.y, problem.train, (0.1,))
    assert distance(blurred.coef[:2], clean.coef[:2]) < 1e-3


def test_constant_duplicated_and_far_off_features():
    problem = drawn(4, 160, 6)
    X = np.column_stack([problem.X, np.full(160, 0.1), problem.X[:, 0], 1e9 + problem.X[:, 1], 1e-30 * problem.X[:, 2]])
    X[problem.train[0], 4] = 7.7  # constant in one training set alone
    problem = Drawn(X, problem.y, problem.train)
    found = solve_logistic(X, problem.y, problem.train, (1e-2, 1.0))
    assert (found.coef[:, :, 6] == 0).all() and (found.coef[0, :, 4] == 0).all()
    assert (found.coef[1:, :, 4] != 0).all()
    for r, train in enumerate(problem.train):
        scaler = StandardScaler().fit(X[train])
        np.testing.assert_allclose(found.mean[r], scaler.mean_, rtol=1e-12)
        np.testing.assert_allclose(found.scale[r], scaler.scale_, rtol=1e-6)
    assert_optimal(problem, (1e-2, 1.0))


def test_features_without_any_variation_leave_the_prior():
    y = np.repeat([0, 0, 1], 10)
    found = solve_logistic(np.ones((30, 3)), y, np.ones((1, 30), dtype=bool), (1.0,))
    assert (found.coef == 0).all()
    np.testing.assert_allclose(found.logit, np.log(0.5), atol=1e-9)


@settings(max_examples=25)
@given(seed=SEED, n=st.integers(12, 200), width=st.integers(1, 60), C=st.sampled_from([1e-4, 1e-2, 1.0, 1e2]))
def test_ridge_is_scikit_learns(seed, n, width, C):
    problem = drawn(seed, n, width)
    found = solve_ridge(problem.X, problem.y, problem.train, (C,))
    for r, train in enumerate(problem.train):
        X = standardised(problem, r)
        best = RidgeClassifier(alpha=1 / C, solver="svd").fit(X[train], problem.y[train])
        assert distance(found.coef[r, 0], np.ravel(best.coef_)) < 1e-4
        np.testing.assert_allclose(found.logit[r, 0], best.decision_function(X), rtol=1e-3, atol=1e-3)


def test_difference_of_means_by_hand():
    """Training rows: label 0 at 0 and 2, label 1 at 4 and 6: mean 3, deviation √5, so the means are ∓2/√5."""
    X = np.array([[0.0], [2.0], [4.0], [6.0], [3.0], [100.0]])
    train = np.array([[True, True, True, True, False, False]])
    found = difference_of_means(X, np.array([0, 0, 1, 1, 0, 0]), train)
    np.testing.assert_allclose([found.mean[0, 0], found.scale[0, 0]], [3, 5**0.5])
    np.testing.assert_allclose(found.coef[0, 0], [4 / 5**0.5])
    np.testing.assert_allclose(found.intercept, 0, atol=1e-12)
    np.testing.assert_allclose(found.logit[0, 0], (X[:, 0] - 3) * 4 / 5, atol=1e-12)


def test_the_means_threshold_is_half_way_between_them():
    problem = drawn(5, 200, 4, positives=0.2)
    found = difference_of_means(problem.X, problem.y, problem.train)
    for r, train in enumerate(problem.train):
        middle = [found.logit[r, 0][train & (problem.y == label)].mean() for label in (0, 1)]
        assert middle[0] == pytest.approx(-middle[1]) and middle[1] > 0


@pytest.mark.parametrize("solve", [solve_logistic, solve_ridge])
@pytest.mark.parametrize(("n", "width"), [(150, 20), (640, 700)])
def test_torch_finds_what_numpy_finds(solve, n, width):
    assert_same_elsewhere(solve, n, width, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("solve", [solve_logistic, solve_ridge])
@pytest.mark.parametrize(("n", "width"), [(150, 20), (640, 700), (3000, 800)])
def test_a_gpu_finds_what_numpy_finds(solve, n, width):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    assert_same_elsewhere(solve, n, width, "cuda")


def assert_same_elsewhere(solve, n: int, width: int, device: str) -> None:
    problem = drawn(6, n, width, dtype=np.float32)
    here = solve(problem.X, problem.y, problem.train, (1e-3, 1e-1))
    there = solve(problem.X, problem.y, problem.train, (1e-3, 1e-1), device=device)
    assert distance(there.coef, here.coef) < 1e-3
    np.testing.assert_allclose(there.logit, here.logit, atol=1e-2)


def test_the_stated_gradient_norm_is_that_of_the_objective():
    problem = drawn(7, 100, 5)
    found = solve_logistic(problem.X, problem.y, problem.train, (0.5,), tolerance=0.05)
    for r, train in enumerate(problem.train):
        X, coef = standardised(problem, r), found.coef[r, 0]
        slope = 0.5 * (1 / (1 + np.exp(-found.logit[r, 0])) - problem.y)[train]
        assert np.linalg.norm(slope @ X[train] + coef) == pytest.approx(found.gradient_norm[r, 0], rel=1e-3)
        assert found.gradient_norm[r, 0] <= 0.05 * np.linalg.norm(coef)
        assert distance(coef, oracle(problem, r, 0.5).coef_[0]) <= 0.05 / 0.95


def test_what_is_not_solved_is_told():
    problem = drawn(8, 100, 30, strength=20.0)
    with pytest.warns(
        ConvergenceWarning, match=r"3 of 6 problems were not solved in 3 iterations .* C = 100, gradient"
    ):
        solve_logistic(problem.X, problem.y, problem.train, (1e-6, 100.0), max_iter=3)


def test_moments_are_those_of_the_scaler_however_rows_are_shared():
    problem = drawn(9, 300, 5, offset=1e6, sets=9)
    found = moments(problem.X, problem.train)
    for r, train in enumerate(problem.train):
        X = problem.X[train]
        np.testing.assert_allclose(found.mean[r], X.mean(axis=0), rtol=1e-13)
        np.testing.assert_allclose(found.scale[r], X.std(axis=0), rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.array([0, 1, 2, 1])}, "pass 0 or 1"),
        ({"y": np.zeros(3, dtype=int)}, "each of 4 rows"),
        ({"X": np.zeros((4, 2), dtype=int)}, "float32 or float64"),
        ({"train": np.ones((1, 3), dtype=bool)}, "N = 4"),
        ({"train": np.array([[True] * 4, [True, False, True, False]])}, "training set 1 has 2 rows, all of label 0"),
        ({"train": np.zeros((1, 4), dtype=bool)}, "training set 0 has no rows"),
        ({"Cs": (1.0, 0.0)}, "positive"),
        ({"Cs": ()}, "positive"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change, message):
    inputs = {
        "X": np.eye(4),
        "y": np.array([0, 1, 0, 1]),
        "train": np.ones((1, 4), dtype=bool),
        "Cs": (1.0,),
    }
    with pytest.raises(ValueError, match=message):
        solve_logistic(**(inputs | change))
