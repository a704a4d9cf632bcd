"""A controlled threshold keeps its promise on new images in about as many draws as it says, with rows that cluster."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.special import expit

from halp_probe.probes.errors import ProbeError
from halp_probe.scoring.abstention import controlled_threshold, one_row_an_image
from halp_probe.scoring.candidates import candidates

pytestmark = pytest.mark.slow

MAX_ERROR, CONFIDENCE = 0.1, 0.8


def draw(rng: np.random.Generator, n_images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Risk, label and image of six questions on each image: an image's difficulty moves all its labels together.

    The risk does not see half of that difficulty, so the rows of one image are wrong together at any risk.
    """
    seen, hidden = rng.normal(0, 1.5, n_images), rng.normal(0, 1.5, n_images)
    images = np.repeat(np.arange(n_images), 6)
    logit = -2.0 + seen[images] + rng.normal(0, 1, len(images))
    return expit(logit), (rng.random(len(images)) < expit(logit + hidden[images])).astype(int), images


def realised(risk: np.ndarray, y: np.ndarray, threshold: float) -> float:
    return float(y[risk <= threshold].mean())


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, np.ndarray]:
    """So many new images that the error on them is the true one."""
    risk, y, _images = draw(np.random.default_rng(99), 200_000)
    return risk, y


def test_the_promise_holds_in_as_many_draws_as_it_says(world: tuple[np.ndarray, np.ndarray]) -> None:
    broken = answered = found = 0
    draws = 80
    for seed in range(draws):
        risk, y, images = draw(np.random.default_rng(seed), 1000)
        try:
            threshold = controlled_threshold(
                risk, y, images, max_error=MAX_ERROR, confidence=CONFIDENCE, seed=10_000 + seed
            )
        except ProbeError:
            continue
        found += 1
        broken += realised(*world, threshold.risk) > MAX_ERROR
        answered += threshold.coverage
    standard_error = np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / draws)
    assert broken / draws <= 1 - CONFIDENCE + 2 * standard_error
    assert found > 0.8 * draws and answered / found > 0.4  # and it is no empty promise


def test_rows_of_one_image_would_break_it(world: tuple[np.ndarray, np.ndarray]) -> None:
    """Why one row an image is drawn: all rows, taken for independent, promise too much. So the simulation can tell."""

    def broken(images_of_rows: bool) -> float:
        count = 0
        for seed in range(40):
            rng = np.random.default_rng(1000 + seed)
            one, wrong, image = (array[:40] for array in draw(rng, 40))
            risk, y, images = np.repeat(one, 30), np.repeat(wrong, 30), np.repeat(image * 100 + np.arange(40), 30)
            if not images_of_rows:
                images = np.arange(len(risk))
            try:
                threshold = controlled_threshold(risk, y, images, max_error=MAX_ERROR, confidence=CONFIDENCE)
            except ProbeError:
                continue
            count += realised(*world, threshold.risk) > MAX_ERROR
        return count / 40

    assert broken(images_of_rows=True) <= 1 - CONFIDENCE + 0.13
    assert broken(images_of_rows=False) > 0.4


def test_the_numbers_of_a_threshold_are_those_of_its_rows() -> None:
    risk, y, images = draw(np.random.default_rng(6), 2000)
    threshold = controlled_threshold(risk, y, images, max_error=MAX_ERROR, confidence=CONFIDENCE, seed=3)
    answered = risk <= threshold.risk
    assert threshold.rows == 1500  # a quarter of the images ordered the candidates
    seen, whole = (threshold.coverage, threshold.error), (answered.mean(), y[answered].mean())
    assert seen == pytest.approx(whole, abs=0.03)  # rows of the same images, one of six each
    assert np.abs(candidates(MAX_ERROR) - threshold.risk).min() < 1e-6 and threshold.error < MAX_ERROR
    loose, strict = (controlled_threshold(risk, y, images, max_error=0.2, confidence=c, seed=3) for c in (0.5, 0.999))
    assert strict.risk <= loose.risk and threshold.risk < loose.risk
    assert controlled_threshold(risk, y, images, max_error=0.5, seed=3).coverage == 1.0


def test_one_row_an_image_of_equal_chances() -> None:
    images = np.array(["a", "b", "a", "c", "a"])
    drawn = [tuple(one_row_an_image(images, seed)) for seed in range(600)]
    assert all(sorted(images[list(rows)]) == ["a", "b", "c"] for rows in drawn)
    for row in (0, 2, 4):
        assert sum(row in rows for rows in drawn) == pytest.approx(200, abs=40)


def test_what_cannot_be_promised_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    risk, y, images = draw(np.random.default_rng(0), 30)
    with pytest.raises(ProbeError, match=r"no threshold keeps the error rate at 0\.01 with confidence 0\.9 on 30"):
        controlled_threshold(risk, y, images, max_error=0.01)
    with pytest.raises(ProbeError, match="3 images are too few"):
        controlled_threshold(risk[:18], y[:18], images[:18], max_error=0.1)
    with pytest.raises(ProbeError, match="must lie between 0 and 1"):
        controlled_threshold(risk, y, images, max_error=0.0)
    monkeypatch.setitem(sys.modules, "mapie.risk_control", None)
    with pytest.raises(ProbeError, match=r"pip install 'halp_probe\[abstention\]'"):
        controlled_threshold(risk, y, images, max_error=0.1)
