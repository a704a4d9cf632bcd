"""A promise per question is kept also where images with more questions are harder, which one per image is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from halp_probe.probes.errors import ProbeError
from halp_probe.scoring.abstention import controlled_threshold
from halp_probe.scoring.question_bound import threshold_per_question

pytestmark = pytest.mark.slow

MAX_ERROR, CONFIDENCE = 0.15, 0.9


def drawn(rng: np.random.Generator, n_images: int, harder: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Risk, label and image; an image in five has twelve questions, and they are `harder` than their risk says."""
    sizes = np.where(rng.random(n_images) < 0.2, 12, 2)
    images = np.repeat(np.arange(n_images), sizes)
    logit = -2.0 + rng.normal(0, 1.5, n_images)[images] + rng.normal(0, 0.5, len(images))
    odds = logit + rng.normal(0, 0.7, n_images)[images] + np.where(sizes[images] > 2, harder, -harder)
    return expit(logit), (rng.random(len(images)) < expit(odds)).astype(int), images


def broken(promise, harder: float, n_images: int, count: int = 36) -> tuple[int, int]:
    """How many of `count` thresholds have a higher error rate per question than promised, and how many were found."""
    risk, y, _ = drawn(np.random.default_rng(999), 60_000, harder)
    failed = found = 0
    for seed in range(count):
        try:
            threshold = promise(
                *drawn(np.random.default_rng(seed), n_images, harder),
                max_error=MAX_ERROR,
                confidence=CONFIDENCE,
                seed=seed,
            )
        except ProbeError:
            continue
        found += 1
        failed += y[risk <= threshold.risk].mean() > MAX_ERROR
    return failed, found


def test_the_promise_per_question_is_kept_where_that_per_image_breaks_it() -> None:
    failed, found = broken(threshold_per_question, 0.7, 1500)
    assert failed <= 6 and found >= 18  # 36 · .1, and two standard errors
    failed, found = broken(controlled_threshold, 0.7, 1500)
    assert failed > found / 3


def test_its_numbers_are_those_of_its_rows_and_a_refusal_says_what_would_do() -> None:
    risk, y, images = drawn(np.random.default_rng(1), 2000, 0.0)
    found = threshold_per_question(risk, y, images, max_error=MAX_ERROR, confidence=CONFIDENCE, seed=1)
    answered = risk <= found.risk
    assert (found.per, found.confidence) == ("question", CONFIDENCE) and found.error < MAX_ERROR
    assert (found.coverage, found.error) == pytest.approx((answered.mean(), y[answered].mean()), abs=0.03)
    few = drawn(np.random.default_rng(1), 100, 0.0)
    with pytest.raises(ProbeError, match=r"per question with confidence 0.9 on 100 images .* about \d+0 images") as e:
        threshold_per_question(*few, max_error=MAX_ERROR)
    needed = int(str(e.value).split("about ")[1].split()[0])
    assert threshold_per_question(*drawn(np.random.default_rng(2), 3 * needed, 0.0), max_error=MAX_ERROR).found
    with pytest.raises(ProbeError, match="more images like these would not do"):
        threshold_per_question(np.full(200, 0.1), np.arange(200) % 2, np.arange(200), max_error=0.3)
    with pytest.raises(ProbeError, match="3 images are too few"):
        threshold_per_question(risk[:3], y[:3], np.arange(3), max_error=0.1)


def test_rows_of_one_image_count_as_one() -> None:
    """Thirty copies of each row are no more evidence than one."""
    risk, y = np.full(60, 0.05), (np.arange(60) % 30 == 0).astype(int)
    single = threshold_per_question(np.tile(risk, 5), np.tile(y, 5), np.arange(300), max_error=0.15)
    copies = [np.repeat(each, 30) for each in (np.tile(risk, 5), np.tile(y, 5), np.arange(300))]
    assert threshold_per_question(*copies, max_error=0.15).risk == single.risk
    with pytest.raises(ProbeError):
        threshold_per_question(*(np.repeat(each, 30) for each in (risk[:30], y[:30], np.arange(30))), max_error=0.15)
