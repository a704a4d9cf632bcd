"""A threshold is the highest whose error rate is shown to be low enough, and its bound holds on other images.

Legend: N rows, G images.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import beta

from halp_probe.bootstrap import Draws
from halp_probe.probes.judging.error_bounds import Answered, error_bounds
from halp_probe.probes.judging.thresholds import Threshold, threshold_for, threshold_for_coverage

DRAWS = Draws(count=300, seed=0)
LEVELS = np.append(np.arange(0.05, 0.7, 0.05), 1.0)


def drawn(rng: np.random.Generator, n_images: int, mean: int, base: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Risk, label and image; a part of an image's difficulty that the risk does not see moves all its labels."""
    seen, hidden = rng.normal(0, 1.2, n_images), rng.normal(0, 1, n_images)
    images = np.repeat(np.arange(n_images), 1 + rng.poisson(mean - 1, n_images))
    logit = base + seen[images] + rng.normal(0, 1, len(images))
    return expit(logit), (rng.random(len(images)) < expit(logit + hidden[images])).astype(int), images


@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_is_the_highest_whose_bound_is_low_enough(seed: int) -> None:
    risk, y, images = drawn(np.random.default_rng(seed), 150, 4, -1.5)
    found = threshold_for(risk, y, images, 0.2, DRAWS)
    answered = risk <= found.risk
    assert found.found and found.error_bound <= 0.2 == found.max_error
    assert (found.coverage, found.error) == pytest.approx((answered.mean(), y[answered].mean()))
    assert found.error < found.error_bound
    risks = np.unique(risk)
    between = np.append((risks[1:] + risks[:-1]) / 2, 1.0)
    shares = np.arange(1, len(risks) + 1) / len(risks)
    every = between[np.unique(np.searchsorted(shares, np.arange(1, 101) / 100 - 1e-9))]
    bounds = error_bounds(Answered.at(every, risk, y, images), DRAWS)
    assert found.risk == every[bounds.upper <= 0.2].max()
    assert f"at most {found.error_bound:.1%} on other images" in found.words


def test_counts_are_those_of_the_rows_at_each_level() -> None:
    risk, y, images = drawn(np.random.default_rng(1), 20, 3, -1.0)
    answered = Answered.at(LEVELS, risk, y, images)
    for place, level in enumerate(LEVELS):
        for image in range(20):
            here = (images == image) & (risk <= level)
            assert (answered.rows[image, place], answered.wrong[image, place]) == (here.sum(), y[here].sum())


def test_without_an_error_the_bound_is_about_that_of_so_many_images() -> None:
    """Ten rows an image are not ten times as much evidence: the exact bound of one row an image is the oracle."""
    for n_images in (10, 30, 100):
        images = np.repeat(np.arange(n_images), 10)
        bounds = error_bounds(Answered.at(np.array([1.0]), np.full(len(images), 0.1), 0 * images, images), DRAWS)
        exact = beta.ppf(0.975, 1, n_images)
        assert 0.95 * exact < bounds.upper[0] < 1.1 * exact


def test_what_cannot_be_shown_is_refused_with_what_would_do() -> None:
    risk, y, images = drawn(np.random.default_rng(0), 60, 4, -1.5)
    refused = threshold_for(risk, y, images, 0.03, DRAWS)
    assert not refused.found and refused.error_bound is None and "images" in refused.reason
    least = float(refused.reason.split("the lowest error rate that can be is ")[1].split(",")[0])
    assert threshold_for(risk, y, images, least, DRAWS).found
    assert not threshold_for(risk, y, images, least - 0.002, DRAWS).found
    hopeless = threshold_for(np.full(300, 0.5), np.tile([0, 1], 150), np.arange(300), 0.1, DRAWS)
    assert "more images would hardly do" in hopeless.reason
    near = threshold_for(np.full(60, 0.1), (np.arange(60) % 20 == 0).astype(int), np.arange(60), 0.1, DRAWS)
    needed = int(near.reason.split("about ")[1].split()[0])
    many = np.arange(needed)
    assert threshold_for(np.full(needed, 0.1), (many % 20 == 0).astype(int), many, 0.1, DRAWS).found


def test_a_share_to_answer_is_the_least_that_is_enough() -> None:
    rng = np.random.default_rng(0)
    risk = rng.integers(0, 12, 40) / 12  # with ties
    wanted = threshold_for_coverage(risk, (rng.random(40) < risk).astype(int), 0.5)
    tried = [float((risk <= level).mean()) for level in np.unique(risk)]
    assert wanted.coverage == pytest.approx(min(share for share in tried if share >= 0.5))
    assert (risk <= wanted.risk).mean() == pytest.approx(wanted.coverage)
    assert np.abs(risk - wanted.risk).min() > 0.01  # no row can be rounded across


def test_a_threshold_survives_json() -> None:
    threshold = Threshold(
        risk=0.25, coverage=0.5, error=0.1, rows=40, max_error=0.1, error_bound=0.09, confidence=0.9, per="question"
    )
    assert Threshold.from_json(json.loads(json.dumps(threshold.as_json()))) == threshold
    of_before = {k: v for k, v in threshold.as_json().items() if k not in ("error_bound", "per")}
    assert Threshold.from_json(of_before).error_bound is None


@pytest.mark.slow
@pytest.mark.parametrize(("n_images", "mean", "base", "max_error"), [(60, 5, -1.5, 0.15), (200, 1, -1.5, 0.15)])
def test_bounds_hold_at_all_levels_at_once_and_the_promise_is_kept(
    n_images: int, mean: int, base: float, max_error: float
) -> None:
    """Picking the highest threshold with so few errors, as if they were those of other images, would break it often."""
    risk, y, _ = drawn(np.random.default_rng(999), 60_000, mean, base)
    order = np.argsort(risk)
    ordered, wrong = risk[order], np.cumsum(y[order])

    def truth(level: float) -> float:
        count = int(np.searchsorted(ordered, level, side="right"))
        return wrong[count - 1] / count if count else 0.0

    above = broken = naive = found = 0
    for seed in range(120):
        here = drawn(np.random.default_rng(seed), n_images, mean, base)
        bounds = error_bounds(Answered.at(LEVELS, *here), DRAWS)
        above += any(truth(level) > upper for level, upper in zip(LEVELS, bounds.upper, strict=True))
        threshold = threshold_for(*here, max_error, DRAWS)
        found += threshold.found
        broken += threshold.found and truth(threshold.risk) > max_error
        errors = np.cumsum(here[1][np.argsort(here[0])]) / np.arange(1, len(here[0]) + 1)
        naive += truth(np.sort(here[0])[np.flatnonzero(errors <= max_error)[-1]]) > max_error
    assert above <= 12 and broken <= 6 and found > 15
    assert naive > 50
