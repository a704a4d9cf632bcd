"""How often the 95 % intervals hold the truth, on simulated images with several correlated questions each."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from halp_probe.bootstrap import Draws
from halp_probe.probes.fitting.splits import outer_folds
from halp_probe.probes.judging.intervals import (
    LEAST_IMAGES_A_FOLD,
    LEAST_RARER_IMAGES,
    MOST_SPREAD,
    refit_spread,
    too_narrow,
)
from halp_probe.probes.judging.metrics import judge
from halp_probe.probes.judging.rows import Rows

pytestmark = pytest.mark.slow

FOLDS, N_DRAWS, LIKENESS = 5, 200, 0.4  # of rows of one image: the share of variance that they have in common


def shared(rng, images, *shape):
    """Standard normal, LIKENESS of its variance the same for all rows of an image."""
    image_part, own = (rng.standard_normal((n, *shape)) for n in (images.max() + 1, len(images)))
    return np.sqrt(LIKENESS) * image_part[images] + np.sqrt(1 - LIKENESS) * own


def asked(rng, n, per_image, prevalence):
    """Labels [n] and images [n]; label 1 too is commoner on some images than on others."""
    images = np.arange(n) // per_image
    return (shared(rng, images) > norm.ppf(1 - prevalence)).astype(int), images


def distance(auroc):
    """Between the means of two standard normal classes."""
    return np.sqrt(2) * norm.ppf(auroc)


def cross_fitted(X, y, images, seed):
    """Scores of each fold's model on all rows [K, N], folds [N] and the folds' coefficients [K, D]."""
    fold = outer_folds(y, images, FOLDS, seed).fold
    models = [LogisticRegression(C=0.1).fit(X[fold != k], y[fold != k]) for k in range(FOLDS)]
    scores = np.stack([model.decision_function(X) for model in models])  # [K, N]
    return scores, fold, np.stack([model.coef_[0] for model in models])


@pytest.mark.parametrize(
    ("n", "per_image", "prevalence", "auroc"), [(200, 3, 0.1, 0.95), (300, 5, 0.3, 0.75), (400, 8, 0.5, 0.55)]
)
def test_interval_of_fixed_scores_holds_their_auroc(n, per_image, prevalence, auroc):
    held = []
    for seed in range(250):
        rng = np.random.default_rng(seed)
        y, images = asked(rng, n, per_image, prevalence)
        score = distance(auroc) * y + shared(rng, images)
        fold = outer_folds(y, images, FOLDS, seed).fold
        estimate = judge({"s": score}, Rows(y=y, fold=fold, images=images), Draws(count=N_DRAWS, seed=seed))[
            "s"
        ].estimate
        held.append(estimate.low <= auroc <= estimate.high)
    assert 0.92 <= np.mean(held) <= 0.98


def test_intervals_of_fitted_probes_and_of_their_difference_hold_the_truth():
    """The truth is the mean AUROC of the five fitted models on all rows there could be; weak and strong signals."""
    n, width, direction = 400, 12, np.repeat([1.0, 0.0], 6) / np.sqrt(6)
    held, held_difference = [], []
    for seed in range(240):
        rng, auroc = np.random.default_rng(seed), (0.6, 0.9)[seed % 2]
        y, images = asked(rng, n, 4, 0.4)
        X = shared(rng, images, width) + distance(auroc) * y[:, None] * direction
        risks, spreads, truths = {}, {}, {}
        for name, columns in (("all", slice(None)), ("fewer", slice(3, None))):
            scores, fold, coefficients = cross_fitted(X[:, columns], y, images, seed)
            risks[name], spreads[name] = scores[fold, np.arange(n)], refit_spread(scores, y)
            cosine = coefficients @ direction[columns] / np.linalg.norm(coefficients, axis=1)
            truths[name] = norm.cdf(cosine * norm.ppf(auroc)).mean()
        rows = Rows(y=y, fold=fold, images=images)
        judged = judge(risks, rows, Draws(count=N_DRAWS, seed=seed), spreads)
        found, difference = judged["all"].estimate, judged["all"].minus(judged["fewer"])
        held.append(found.low <= truths["all"] <= found.high)
        held_difference.append(difference.low <= truths["all"] - truths["fewer"] <= difference.high)
    assert 0.92 <= np.mean(held) <= 0.98
    assert 0.92 <= np.mean(held_difference) <= 0.98


def test_shuffled_labels_lie_within_their_interval_and_not_within_that_of_fixed_scores():
    """Cross-fitting doubles the variance where there is no signal, and the spread finds that out."""
    held = {"control": 0, "spread": 0, "as if fixed": 0}
    for seed in range(100):
        rng = np.random.default_rng(seed)
        y, images = asked(rng, 300, 3, 0.3)
        X, y = shared(rng, images, 12), rng.permutation(y)
        scores, fold, _ = cross_fitted(X, y, images, seed)
        risk, spread = scores[fold, np.arange(len(y))], refit_spread(scores, y)
        risks, rows = {"spread": risk, "as if fixed": risk}, Rows(y=y, fold=fold, images=images)
        judged = judge(risks, rows, Draws(count=N_DRAWS, seed=seed), {"spread": spread})
        estimates = {"control": judged["spread"].control, **{name: each.estimate for name, each in judged.items()}}
        for name, estimate in estimates.items():
            held[name] += estimate.low <= 0.5 <= estimate.high
    assert held["control"] >= 93
    assert held["spread"] >= 93
    assert held["as if fixed"] < 92


def test_spread_is_one_for_models_that_agree_and_grows_as_they_differ():
    rng = np.random.default_rng(0)
    y, common, own = rng.integers(0, 2, 20_000), rng.standard_normal(20_000), rng.standard_normal((5, 20_000))
    assert refit_spread(np.stack([common, 2 * common + y, 3 * common + 1]), y) == pytest.approx(1)
    assert refit_spread(own, y) == MOST_SPREAD
    correlated = np.sqrt(0.9) * common + np.sqrt(0.1) * own  # by .9, so f is .4 for five models
    assert refit_spread(correlated, y) == pytest.approx(np.sqrt(1.4), abs=0.005)
    assert refit_spread(correlated + 100 * y, y) == pytest.approx(refit_spread(correlated, y))


def asked_about(y, images):
    return Rows(y=y, fold=np.zeros(len(y)), images=images)


def test_too_few_images_are_named():
    images = np.repeat(np.arange(100), 2)
    y = (images < LEAST_RARER_IMAGES).astype(int)
    assert too_narrow(asked_about(y, images), FOLDS) == ""
    y[images == 0] = 0
    assert too_narrow(asked_about(y, images), FOLDS) == "only 7 images have label 1: the intervals are too narrow"
    assert too_narrow(asked_about(1 - y, images), FOLDS) == "only 7 images have label 0: the intervals are too narrow"
    few = np.repeat(np.arange(LEAST_IMAGES_A_FOLD * FOLDS - 1), 10)
    assert too_narrow(asked_about(np.arange(len(few)) % 2, few), FOLDS).startswith("only 29 images for 5 folds")
    assert too_narrow(asked_about(np.arange(len(few)) % 2, few), FOLDS - 1) == ""
