"""What is chosen for a test fold is chosen without it, and the numbers are those of a loop by hand."""

from __future__ import annotations

import numpy as np
import pytest
from probes_fake import QUERY, VISION, planted
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from halp_probe.probes.fitting.kinds import STRENGTHS, linear
from halp_probe.probes.fitting.splits import folds_of, images_on_both_sides, outer_folds
from halp_probe.probes.judging.calibration import Calibration
from halp_probe.probes.nested import cross_fit, select
from halp_probe.probes.training_sets import training_sets


@pytest.fixture(scope="module")
def data():
    """X by representation, y, images, folds."""
    shards, y = planted(240, auroc=0.75, width=6)
    images = np.arange(240) // 3
    return {name: X.astype(np.float64) for name, X in shards.arrays.items()}, y, images, outer_folds(y, images, 4, 0)


def fits_of(data):
    X, y, _, folds = data
    sets = training_sets(y, folds)
    return {name: cross_fit(linear()(x, y, sets.train), y, folds, sets) for name, x in X.items()}


def by_hand(X, y, fold, train, test, C):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-10, max_iter=5000))
    return model.fit(X[train], y[train]).decision_function(X[test])


def test_scores_and_choices_are_those_of_a_nested_loop_by_hand(data):
    X, y, _, folds = data
    found = fits_of(data)
    for name, x in X.items():
        for k in range(4):
            ranks = {}
            for C in STRENGTHS:
                inner = []
                for j in set(range(4)) - {k}:
                    train, test = ~np.isin(folds.fold, (j, k)), folds.fold == j
                    logit = by_hand(x, y, folds.fold, train, test, C)
                    inner.append((roc_auc_score(y[test], logit), -log_loss(y[test], 1 / (1 + np.exp(-logit)))))
                ranks[C] = tuple(np.mean(inner, axis=0))
            best = max(ranks, key=ranks.__getitem__)
            fit, test = found[name], folds.fold == k
            assert fit.chosen[k] == best
            assert fit.inner_auroc[k] == pytest.approx(ranks[best][0], abs=2e-3)  # a swapped pair or two
            np.testing.assert_allclose(fit.score[test], by_hand(x, y, folds.fold, ~test, test, best), atol=2e-3)


def test_the_final_probe_comes_with_out_of_fold_scores_of_its_own_strength(data):
    """Log-odds of another strength are on another scale: a calibration of those would not be one of this probe."""
    X, y, _, folds = data
    found = fits_of(data)
    assert any(set(fit.chosen) != {fit.final.C_} for fit in found.values())
    for name, fit in found.items():
        for k in range(4):
            test = folds.fold == k
            expected = by_hand(X[name], y, folds.fold, ~test, test, fit.final.C_)
            np.testing.assert_allclose(fit.final_score[test], expected, atol=2e-3)
        every = np.ones(len(y), dtype=bool)
        expected = by_hand(X[name], y, folds.fold, every, every, fit.final.C_)
        np.testing.assert_allclose(fit.final.decision_function(X[name]), expected, atol=2e-3)


def test_selection_is_by_the_inner_folds(data):
    _, y, _, folds = data
    fits = fits_of(data)
    selected = select(fits, y, folds, "platt")
    for k in range(4):
        assert selected.representation[k] == max(fits, key=lambda name: fits[name].inner_auroc[k])
        rows, own = folds.fold == k, fits[selected.representation[k]]
        assert (selected.score[rows] == own.score[rows]).all()
        training = folds.fold != k
        calibration = Calibration.fit("platt", own.inner_score[k, training], y[training])
        np.testing.assert_allclose(selected.risk[rows], calibration(own.score[rows]))
    assert selected.counts[QUERY] == 4 and selected.most_chosen == QUERY
    assert np.isfinite(selected.risk).all()


def test_the_test_fold_has_no_part_in_what_is_chosen_for_it(data):
    """Other vectors and other labels there: same strengths, same representation, same calibration."""
    X, y, _, folds = data
    before = fits_of(data)
    k, rng = 2, np.random.default_rng(1)
    test = folds.fold == k
    changed_y = y.copy()
    changed_y[test] = rng.permutation(1 - y[test])
    changed_X = {name: x.copy() for name, x in X.items()}
    changed_X[VISION][test] = 9 * changed_y[test, None] + rng.standard_normal((test.sum(), 6))
    after = fits_of((changed_X, changed_y, None, folds_of(folds.fold, changed_y)))
    for name in X:
        assert after[name].candidate[k] == before[name].candidate[k]
        assert after[name].inner_auroc[k] == pytest.approx(before[name].inner_auroc[k], abs=2e-3)
        # to the solver's tolerance: it starts from what all rows have in common
        np.testing.assert_allclose(after[name].inner_score[k], before[name].inner_score[k], atol=2e-3)
    np.testing.assert_allclose(after[QUERY].score[test], before[QUERY].score[test], atol=2e-3)
    chosen = [select(fits, labels, folds, "platt").representation for fits, labels in ((before, y), (after, changed_y))]
    assert chosen[0][k] == chosen[1][k]
    assert chosen[0] != chosen[1]  # elsewhere that fold does count


def test_training_sets_leave_out_one_or_two_folds_and_need_both_classes():
    y = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0])
    folds = folds_of(np.array([0, 1, 0, 1, 2, 2, -1, -1, -1]), y)
    sets = training_sets(y, folds)
    assert sets.without(0, 1) is None  # no label 1 is left
    assert sets.train[sets.without(0, 2)].tolist() == [False, True, False, True, False, False, True, True, True]
    assert sets.train[sets.without(1)].sum() == 7
    assert sets.train[sets.everything].all()
    assert len(sets.left_out) == len(sets.train) == 6


def test_one_split_has_no_inner_folds(data):
    X, y, images, _ = data
    folds = folds_of(np.where(np.arange(240) % 5 == 0, 0, -1), y)
    sets = training_sets(y, folds)
    fit = cross_fit(linear()(X[QUERY], y, sets.train), y, folds, sets)
    assert np.isnan(fit.inner_auroc).all()
    assert fit.chosen == (STRENGTHS[len(STRENGTHS) // 2],)
    assert np.isfinite(fit.score[folds.tested]).all() and np.isnan(fit.score[~folds.tested]).all()
    assert select({QUERY: fit}, y, folds, "platt") is None
    assert images_on_both_sides(folds, images) == len(np.unique(images[folds.tested]))


def test_images_on_both_sides_are_counted():
    folds = folds_of(np.array([0, 0, 1, 1, -1]), np.array([0, 1, 0, 1, 0]))
    assert images_on_both_sides(folds, np.array([5, 5, 6, 7, 8])) == 0
    assert images_on_both_sides(folds, np.array([5, 6, 6, 7, 7])) == 2
