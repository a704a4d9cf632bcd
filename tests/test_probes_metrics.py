"""AUROC, its bootstrap and its differences against scikit-learn and explicit loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from halp_probe.probes.metrics import auroc, fold_mean_auroc, image_draws, judge, weighted_auroc

ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3), st.integers(0, 4)), min_size=2, max_size=30)


@given(ROWS)
@settings(max_examples=200, deadline=None)
def test_weighted_auroc_is_scikit_learns_with_ties_and_weights(rows):
    y, score, weight = (np.array(column) for column in zip(*rows, strict=True))
    ours = weighted_auroc(y, score / 3, np.stack([weight, np.ones_like(weight)]))
    for value, w in zip(ours, (weight, np.ones_like(weight)), strict=True):
        if w[y == 1].sum() == 0 or w[y == 0].sum() == 0:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(roc_auc_score(y, score / 3, sample_weight=w), abs=1e-12)


def test_one_class_is_nan_and_never_a_half():
    assert np.isnan(auroc(np.ones(5, dtype=int), np.arange(5.0)))
    y, fold = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])
    weights = np.ones((1, 4))
    assert fold_mean_auroc(y, np.array([0.0, 1, 0, 1]), fold, weights)[0] == 1  # fold 1 is left out
    assert np.isnan(fold_mean_auroc(np.ones(4, dtype=int), np.arange(4.0), fold, weights)[0])


def test_a_fold_without_scores_is_left_out():
    y, fold = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    assert fold_mean_auroc(y, np.array([np.nan, np.nan, 0.0, 1]), fold, np.ones((1, 4)))[0] == 1


def test_folds_are_not_pooled():
    """Each fold is ranked perfectly on a scale of its own; pooled they would not be."""
    y, fold = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    score = np.array([0.1, 0.2, 0.8, 0.9])
    assert auroc(y, score) == 0.75
    assert fold_mean_auroc(y, score, fold, np.ones((1, 4)))[0] == 1


def test_draws_take_whole_images_as_many_as_there_are():
    images = np.array([4, 4, 9, 9, 9, 2])
    draws = np.concatenate(list(image_draws(images, 50, seed=0)))
    assert draws.shape == (50, 6)
    assert (draws[:, 0] == draws[:, 1]).all()
    assert (draws[:, 2] == draws[:, 4]).all()
    assert (draws[:, [0, 2, 5]].sum(axis=1) == 3).all()
    assert len({tuple(draw) for draw in draws}) > 5


def test_draws_do_not_depend_on_the_block_size(monkeypatch):
    images = np.arange(20) // 2
    whole = np.concatenate(list(image_draws(images, 30, seed=3)))
    monkeypatch.setattr("halp_probe.probes.metrics._CELLS_AT_ONCE", 70)
    assert (np.concatenate(list(image_draws(images, 30, seed=3))) == whole).all()


def test_paired_difference_is_that_of_rows_repeated_in_a_loop():
    rng = np.random.default_rng(0)
    n = 150
    y, fold, images = rng.integers(0, 2, n), np.arange(n) // 50, np.arange(n) // 2
    scores = {"a": rng.random(n) + y, "b": rng.integers(0, 4, n) / 4}
    judged = judge(scores, y, fold, images, 40, seed=1)
    differences = []
    for draw in np.concatenate(list(image_draws(images, 40, seed=1))):
        rows = np.repeat(np.arange(n), draw)
        mean = {
            name: np.mean([roc_auc_score(y[r], s[r]) for r in (rows[fold[rows] == k] for k in range(3))])
            for name, s in scores.items()
        }
        differences.append(mean["a"] - mean["b"])
    np.testing.assert_allclose(judged["a"].draws - judged["b"].draws, differences, atol=1e-12)
    estimate = judged["a"].minus(judged["b"])
    np.testing.assert_allclose((estimate.low, estimate.high), np.percentile(differences, (2.5, 97.5)))
    same = judged["a"].minus(judged["a"])
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_intervals_cover_the_truth_and_know_that_rows_of_an_image_are_alike():
    """Rows of an image share label and score noise, so the interval must be that of 100 images, not of 400 rows."""
    truth, covered, covered_by_rows = norm.cdf(1 / np.sqrt(2)), 0, 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        images = np.repeat(np.arange(100), 4)
        y = rng.integers(0, 2, 100)[images]
        score = rng.standard_normal(100)[images] + y + 1e-6 * rng.random(400)
        for groups in (images, np.arange(400)):
            found = judge({"s": score}, y, np.zeros(400, dtype=int), groups, 200, seed)["s"].estimate
            hit = found.low <= truth <= found.high
            covered, covered_by_rows = (
                covered + (hit and groups is images),
                covered_by_rows + (hit and groups is not images),
            )
    assert covered >= 88
    assert covered_by_rows < 80
