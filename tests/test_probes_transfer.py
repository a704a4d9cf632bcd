"""From group to group: what is shared carries over, what is not does not, and small groups say so."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from halp_probe.bootstrap import Draws
from halp_probe.probes.fitting.estimators import STRENGTHS
from halp_probe.probes.fitting.kinds import linear
from halp_probe.probes.fitting.splits import outer_folds
from halp_probe.probes.transfer import transfer

N = 900


@pytest.fixture(scope="module")
def moved():
    """Groups a and b are told by the same feature, group c by the same one turned round, group d has few rows."""
    rng = np.random.default_rng(0)
    y, images = rng.integers(0, 2, N), np.arange(N) // 3
    values = np.array(["a", "b", "c"])[np.arange(N) // 3 % 3]
    values[:24] = "d"
    X = rng.standard_normal((N, 4))
    X[:, 0] += np.where(values == "c", -2.0, 2.0) * y
    folds = outer_folds(y, images, 3, 0)
    inputs = {"noise": lambda: rng.standard_normal((N, 4)), "layer": lambda: X}
    found = transfer(
        inputs, lambda images: linear(), "source", list(values), y, folds, images, Draws(count=100, seed=0)
    )
    return found, X, y, values, folds


def test_what_is_shared_carries_over_and_what_is_not_does_not(moved):
    found = moved[0]
    assert found.values == ("a", "b", "c", "d")
    auroc = {(a, b): found.cells[i][j].auroc for i, a in enumerate("abcd") for j, b in enumerate("abcd")}
    for pair in ("aa", "ab", "ba", "bb", "cc"):
        assert auroc[tuple(pair)].low > 0.8, pair
    for pair in ("ac", "ca", "bc"):
        assert auroc[tuple(pair)].high < 0.2, pair


def others(k):
    """Both orders of the two folds that are not k."""
    i, j = (fold for fold in range(3) if fold != k)
    return (i, j), (j, i)


def test_cells_are_those_of_a_loop_by_hand(moved):
    found, X, y, values, folds = moved

    def model(C):
        return make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-9, max_iter=5000))

    parts = []
    for k in range(3):
        train, test = (values == "a") & (folds.fold != k), (values == "b") & (folds.fold == k)
        inner = []
        for C in STRENGTHS:  # chosen on the other two folds of the same group, each judged by a probe of the other
            pairs = [((values == "a") & (folds.fold == i), (values == "a") & (folds.fold == j)) for i, j in others(k)]
            judged = [roc_auc_score(y[b], model(C).fit(X[a], y[a]).decision_function(X[b])) for a, b in pairs]
            inner.append(round(np.mean(judged), 12))
        best = STRENGTHS[int(np.argmax(inner))]
        assert inner.count(max(inner)) == 1
        parts.append(roc_auc_score(y[test], model(best).fit(X[train], y[train]).decision_function(X[test])))
    cell = found.cells[0][1]
    assert cell.auroc.value == pytest.approx(np.mean(parts), abs=1e-3)
    assert cell.n_test == (values == "b").sum()
    assert cell.n_test_positive == y[values == "b"].sum()
    assert cell.n_train == min(((values == "a") & (folds.fold != k)).sum() for k in range(3))


def test_a_small_group_is_counted_and_not_judged(moved):
    found = moved[0]
    for cell in (found.cells[3][0], found.cells[0][3]):
        assert np.isnan(cell.auroc.value)
    assert "rows of the rarer label in a training set" in found.cells[3][0].auroc.note
    assert found.cells[0][3].n_test == 24


def test_the_groups_that_are_judged_have_no_part_in_the_choice(moved):
    """A layer that tells the labels of group b alone is never chosen by group a, however many rows b has."""
    assert all(set(counts) <= {"layer"} for counts in moved[0].chosen) and moved[0].most_chosen == "layer"
    rng = np.random.default_rng(1)
    y, images = rng.integers(0, 2, N), np.arange(N) // 3
    values = np.where(images % 5 == 0, "a", "b")
    layers = {name: rng.standard_normal((N, 3)) for name in ("of b", "of a")}
    for name, layer in layers.items():
        layer[:, 0] += 2 * y * (values == name[-1])
    folds = outer_folds(y, images, 3, 0)
    found = transfer(
        {name: (lambda X=X: X) for name, X in layers.items()},
        lambda images: linear(),
        "source",
        list(values),
        y,
        folds,
        images,
        Draws(count=30, seed=0),
    )
    assert [dict(each) for each in found.chosen] == [{"of a": 3}, {"of b": 3}]
    turned = transfer(
        {name: (lambda X=X: X) for name, X in layers.items()},
        lambda images: linear(),
        "source",
        list(values),
        np.where(values == "b", 1 - y, y),
        folds,
        images,
        Draws(count=30, seed=0),
    )
    assert turned.cells[0][0] == found.cells[0][0] and turned.chosen[0] == found.chosen[0]
