"""AUROC, the bootstrap, differences and intervals against scikit-learn, explicit loops and hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from scipy.stats import t as student
from sklearn.metrics import brier_score_loss, roc_auc_score

from halp_probe.bootstrap import Draws, image_draws, interval
from halp_probe.probes.judging.measures import MEASURES
from halp_probe.probes.judging.metrics import auroc, judge, judge_measures
from halp_probe.probes.judging.rows import Rows

ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3), st.integers(0, 4)), min_size=2, max_size=30)


def fold_mean(y: np.ndarray, score: np.ndarray, fold: np.ndarray) -> float:
    return judge({"score": score}, Rows(y=y, fold=fold, images=np.arange(len(y))), Draws(count=2, seed=0))[
        "score"
    ].value


@given(ROWS)
@settings(max_examples=200, deadline=None)
def test_weighted_auroc_is_scikit_learns_with_ties_and_weights(rows):
    y, score, weight = (np.array(column) for column in zip(*rows, strict=True))
    ours = MEASURES["auroc"](score / 3, y, np.stack([weight, np.ones_like(weight)]))
    for value, w in zip(ours, (weight, np.ones_like(weight)), strict=True):
        if w[y == 1].sum() == 0 or w[y == 0].sum() == 0:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(roc_auc_score(y, score / 3, sample_weight=w), abs=1e-12)


def test_one_class_is_nan_and_never_a_half():
    assert np.isnan(auroc(np.arange(5.0), np.ones(5, dtype=int)))
    y, fold = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])
    assert fold_mean(y, np.array([0.0, 1, 0, 1]), fold) == 1  # fold 1 is left out
    assert np.isnan(fold_mean(np.ones(4, dtype=int), np.arange(4.0), fold))


def test_a_fold_without_scores_is_left_out():
    y, fold = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    assert fold_mean(y, np.array([np.nan, np.nan, 0.0, 1]), fold) == 1


def test_folds_are_not_pooled():
    """Each fold is ranked perfectly on a scale of its own; pooled they would not be."""
    y, fold = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    score = np.array([0.1, 0.2, 0.8, 0.9])
    assert auroc(score, y) == 0.75
    assert fold_mean(y, score, fold) == 1


def test_draws_take_whole_images_as_many_as_there_are():
    images = np.array([4, 4, 9, 9, 9, 2])
    draws = np.concatenate(list(image_draws(images, Draws(count=50, seed=0))))
    assert draws.shape == (50, 6)
    assert (draws[:, 0] == draws[:, 1]).all()
    assert (draws[:, 2] == draws[:, 4]).all()
    assert (draws[:, [0, 2, 5]].sum(axis=1) == 3).all()
    assert len({tuple(draw) for draw in draws}) > 5


def test_draws_do_not_depend_on_the_block_size(monkeypatch):
    images = np.arange(20) // 2
    whole = np.concatenate(list(image_draws(images, Draws(count=30, seed=3))))
    monkeypatch.setattr("halp_probe.bootstrap._CELLS_AT_ONCE", 70)
    assert (np.concatenate(list(image_draws(images, Draws(count=30, seed=3)))) == whole).all()


def test_paired_difference_is_that_of_rows_repeated_in_a_loop():
    rng = np.random.default_rng(0)
    n = 150
    y, fold, images = rng.integers(0, 2, n), np.arange(n) // 50, np.arange(n) // 2
    scores = {"a": rng.random(n) + y, "b": rng.integers(0, 4, n) / 4}
    judged = judge(scores, Rows(y=y, fold=fold, images=images), Draws(count=40, seed=1))
    differences = []
    for draw in np.concatenate(list(image_draws(images, Draws(count=40, seed=1)))):
        rows = np.repeat(np.arange(n), draw)
        mean = {
            name: np.mean([roc_auc_score(y[r], s[r]) for r in (rows[fold[rows] == k] for k in range(3))])
            for name, s in scores.items()
        }
        differences.append(mean["a"] - mean["b"])
    np.testing.assert_allclose(judged["a"].draws - judged["b"].draws, differences, atol=1e-12)
    estimate = judged["a"].minus(judged["b"])
    reach = student.ppf(0.975, judged["a"].clusters - 1) * np.std(differences, ddof=1)
    np.testing.assert_allclose((estimate.low, estimate.high), (estimate.value - reach, estimate.value + reach))
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
            rows = Rows(y=y, fold=np.zeros(400, dtype=int), images=groups)
            found = judge({"s": score}, rows, Draws(count=200, seed=seed))["s"].estimate
            hit = found.low <= truth <= found.high
            covered, covered_by_rows = (
                covered + (hit and groups is images),
                covered_by_rows + (hit and groups is not images),
            )
    assert covered >= 88
    assert covered_by_rows < 80


def test_every_measure_is_the_mean_of_folds_or_pooled_in_every_draw():
    rng = np.random.default_rng(0)
    n = 90
    y, fold, images, risk = rng.integers(0, 2, n), np.arange(n) // 30, np.arange(n) // 3, rng.integers(0, 9, n) / 8
    found = judge_measures(list(MEASURES), {"risk": risk}, Rows(y=y, fold=fold, images=images), Draws(count=5, seed=2))
    for name, measure in MEASURES.items():
        for value, weights in zip(
            [found[name]["risk"].value, *found[name]["risk"].draws],
            [np.ones(n, dtype=int), *np.concatenate(list(image_draws(images, Draws(count=5, seed=2))))],
            strict=True,
        ):
            rows = np.repeat(np.arange(n), weights)
            parts = [rows[fold[rows] == k] for k in range(3)] if measure.by_fold else [rows]
            expected = np.mean([measure(risk[part], y[part], np.ones((1, len(part))))[0] for part in parts])
            assert value == pytest.approx(expected), name


def test_measures_of_probabilities_are_pooled_and_leave_out_folds_without_scores():
    y, fold, images = np.array([0, 1, 1, 0, 1, 1]), np.array([0, 0, 1, 1, 2, 2]), np.arange(6)
    risk = np.array([0.1, 0.7, 0.9, 0.2, np.nan, 0.4])
    rows = Rows(y=y, fold=fold, images=images)
    found = judge_measures(["brier", "prevalence"], {"risk": risk}, rows, Draws(count=3, seed=0))
    assert found["brier"]["risk"].value == pytest.approx(brier_score_loss(y[:4], risk[:4]))
    assert found["prevalence"]["risk"].value == 0.5


@pytest.mark.parametrize(
    ("y", "score", "name", "note"),
    [
        ([0] * 8, np.arange(8.0), "auroc", "all 8 rows have label 0"),
        ([0, 1] * 4, np.full(8, np.nan), "auroc", "no row has a score"),
        ([0, 1] * 4, np.arange(8.0), "brier", "the score is not a probability"),
        ([0, 0, 0, 0, 1, 1, 1, 1], np.arange(8.0), "auroc", "no test fold has both classes"),
    ],
)
def test_nan_says_why(y, score, name, note):
    rows = Rows(y=np.array(y), fold=np.repeat([0, 1], 4), images=np.arange(8))
    estimate = judge_measures([name], {"s": score}, rows, Draws(count=10, seed=0))[name]["s"].estimate
    assert np.isnan([estimate.value, estimate.low, estimate.high]).all()
    assert note in estimate.note


def test_draws_that_leave_a_fold_without_a_class_are_owned_up_to():
    y, fold = np.array([1, 0, 0, 0, 1, 1, 0, 0]), np.repeat([0, 1], 4)
    score = np.array([0.6, 0.2, 0.7, 0.1, 0.5, 0.9, 0.4, 0.6])
    judged = judge({"s": score}, Rows(y=y, fold=fold, images=np.arange(8)), Draws(count=200, seed=0))["s"]
    draws = np.concatenate(list(image_draws(np.arange(8), Draws(count=200, seed=0))))
    gaps = sum(any(len(np.unique(np.repeat(y[fold == k], draw[fold == k]))) < 2 for k in (0, 1)) for draw in draws)
    assert f"in {gaps} of 200 bootstrap draws some fold has one class" in judged.estimate.note
    assert gaps > 20


def test_undefined_draws_are_counted_and_half_of_them_end_the_interval():
    draws = np.concatenate([np.linspace(0.6, 0.8, 60), np.full(40, np.nan)])
    some = interval(0.7, draws, clusters=20, bounded=True)
    assert some.low < 0.7 < some.high
    assert "60 of 100 bootstrap draws" in some.note
    none = interval(0.7, np.append(draws, np.full(20, np.nan)), clusters=20, bounded=True)
    assert np.isnan([none.low, none.high]).all()
    assert "defined in only 60 of 120" in none.note
    assert interval(0.7, draws[:60], clusters=20, bounded=True).note == ""
    assert "only 1 image" in interval(0.7, draws[:60], clusters=1, bounded=True).note


def test_interval_is_students_on_the_scale_of_the_measure():
    """By hand: s = .1 and 5 images; on the logit scale the slope is 1 / (.8 * .2)."""
    draws, t = np.array([0.7, 0.8, 0.9]), 2.7764451052
    plain = interval(0.8, draws, clusters=5, bounded=False)
    assert (plain.low, plain.high) == pytest.approx((0.8 - 0.1 * t, 0.8 + 0.1 * t))
    odds = 4 * np.exp([-0.1 * t / 0.16, 0.1 * t / 0.16])
    bounded = interval(0.8, draws, clusters=5, bounded=True)
    assert (bounded.low, bounded.high) == pytest.approx(tuple(odds / (1 + odds)))


def test_a_perfect_score_on_few_images_is_not_certain():
    """No draw can tell how far from perfect it is: the interval is Clopper and Pearson's of as many images."""
    y, images = np.array([0, 1] * 6), np.arange(12)
    rows, draws = Rows(y=y, fold=np.zeros(12), images=images), Draws(count=100, seed=0)
    estimate = judge({"s": y.astype(float)}, rows, draws)["s"].estimate
    exact = binomtest(6, 6).proportion_ci()
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((1, exact.low, 1))
    assert "6 images without a miss" in estimate.note
    worst = judge({"s": 1.0 - y}, rows, draws)["s"].estimate
    assert (worst.value, worst.low, worst.high) == pytest.approx((0, 0, 1 - exact.low))


def test_images_are_counted_by_the_label_that_fewer_of_them_have():
    for y, images, count in (([1, 1, 1, 0, 0], [7, 7, 7, 7, 8], 1), ([0, 0], [1, 2], 0)):
        assert Rows(y=np.array(y), fold=np.zeros(len(y)), images=np.array(images)).rarer_images == count
