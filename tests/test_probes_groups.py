"""Groups: counts of all, AUROC of those large enough, and a macro mean over the same groups in every draw."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from halp_probe.bootstrap import Draws, image_draws
from halp_probe.probes.judging.groups import by_group
from halp_probe.probes.judging.rows import Rows


def one_fold(y, images):
    return Rows(y=y, fold=np.zeros(len(y), dtype=int), images=images)


def rows(seed=0, n=400):
    rng = np.random.default_rng(seed)
    values = np.array(["a", "b", "c", "d"])[np.arange(n) % 4]
    y = rng.integers(0, 2, n)
    y[values == "c"] = 1
    return y, rng.random(n) + 0.5 * y, values, np.arange(n) // 2


def test_groups_are_scikit_learns_and_the_macro_is_their_mean():
    y, score, values, images = rows()
    found = by_group(score, one_fold(y, images), values, Draws(count=50, seed=0))
    expected = {v: roc_auc_score(y[values == v], score[values == v]) for v in "abd"}
    assert [group.value for group in found.groups] == ["a", "b", "c", "d"]
    for group in found.groups:
        inside = values == group.value
        assert (group.n, group.n_positive, group.n_images) == (100, y[inside].sum(), 100)
        if group.value == "c":
            assert np.isnan(group.auroc.value)
            assert group.auroc.note == "all 100 rows have label 1"
        else:
            assert group.auroc.value == pytest.approx(expected[group.value])
            assert group.auroc.low < group.auroc.value < group.auroc.high
    assert found.macro.value == pytest.approx(np.mean(list(expected.values())))
    assert found.macro.note == "not in the mean: 1 with one label only, of 4 groups"


def test_macro_draws_are_means_over_the_same_draws_of_whole_images():
    """Both groups lie on the same images, so their draws move together: the interval is that of this loop."""
    y, score, values, images = rows()
    kept = np.isin(values, ["a", "b"])
    y, score, values, images = y[kept], score[kept], values[kept], images[kept]
    found = by_group(score, one_fold(y, images), values, Draws(count=60, seed=4))
    means = []
    for draw in np.concatenate(list(image_draws(images, Draws(count=60, seed=4)))):
        chosen = np.repeat(np.arange(len(y)), draw)
        each = (chosen[values[chosen] == v] for v in "ab")
        means.append(np.mean([roc_auc_score(y[r], score[r]) for r in each]))
    slope = 1 / (found.macro.value * (1 - found.macro.value))
    wide = np.log(found.macro.high / (1 - found.macro.high)) - np.log(found.macro.low / (1 - found.macro.low))
    assert wide / (2 * slope * np.std(means, ddof=1)) == pytest.approx(1.98, abs=0.02)  # Student's quantile


def test_pairs_are_of_one_fold_and_the_spread_widens():
    y, score, values, images = rows()
    fold = (np.arange(400) // 2) % 3
    draws, folds = Draws(count=50, seed=0), Rows(y=y, fold=fold, images=images)
    found, wider = (by_group(score, folds, values, draws, spread=s) for s in (1.0, 1.4))
    apart = by_group(score + 10 * fold, folds, values, draws)  # folds on scales of their own
    for one, same, wide, value in zip(found.groups[:2], apart.groups, wider.groups, "ab", strict=False):
        inside = values == value
        pairs = [
            (score[p] > score[n])
            for p in np.flatnonzero(inside & (y == 1))
            for n in np.flatnonzero(inside & (y == 0))
            if fold[p] == fold[n]
        ]
        assert one.auroc.value == pytest.approx(np.mean(pairs)) == same.auroc.value
        assert (wide.auroc.low, wide.auroc.value) < (one.auroc.low, one.auroc.value + 1e-9)
    assert wider.macro.high > found.macro.high > found.macro.value == apart.macro.value


def test_a_column_that_explains_everything_leaves_nothing_within_its_groups():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, 2000)
    y = (rng.random(2000) < np.where(group == 1, 0.9, 0.1)).astype(int)
    score = group + 0.01 * rng.random(2000)
    assert roc_auc_score(y, score) > 0.85
    macro = by_group(score, one_fold(y, np.arange(2000)), [str(g) for g in group], Draws(count=200, seed=0)).macro
    assert macro.low < 0.5 < macro.high


def test_small_groups_are_counted_and_say_what_they_lack():
    y, score = np.array([0, 1] * 12 + [1] + [0] * 9 + [0, 1]), np.linspace(0, 1, 36)
    score[-2:] = np.nan
    values = ["big"] * 24 + ["few"] * 10 + ["unscored"] * 2
    found = by_group(score, one_fold(y, np.arange(36)), values, Draws(count=30, seed=0), minimum=5)
    big, few, unscored = found.groups
    assert np.isfinite(big.auroc.value)
    assert (few.n, few.n_positive, few.auroc.note) == (10, 1, "images with label 1: 1, fewer than 5")
    assert (unscored.n, unscored.n_images, unscored.auroc.note) == (0, 0, "no row has a score")
    assert found.macro.value == big.auroc.value


def test_minimum_counts_images_not_rows():
    y, score = np.array([0, 1] * 20), np.linspace(0, 1, 40)
    same_image = one_fold(y, np.zeros(40, dtype=int))
    one_image = by_group(score, same_image, ["g"] * 40, Draws(count=10, seed=0), minimum=2)
    assert np.isnan(one_image.groups[0].auroc.value)
    assert one_image.macro.note == "no group can be judged"
