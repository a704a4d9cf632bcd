"""No image on two sides, both classes in every fold where that can be, and the reason where it cannot."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halp_probe.probes.errors import ProbeError
from halp_probe.probes.fitting.splits import Split, _assert_apart, inner_splits, outer_folds, study_folds


@given(st.integers(0, 10_000), st.integers(2, 5))
@settings(max_examples=60, deadline=None)
def test_images_never_straddle_and_every_row_is_tested_once(seed, count):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(30, 80))
    images, y = rng.integers(0, 12, n), rng.integers(0, 2, n)
    folds = outer_folds(y, images, count, seed)
    tested = np.concatenate([folds.split(k).test for k in range(count)])
    assert sorted(tested) == list(range(n))
    for k in range(count):
        split = folds.split(k)
        assert not set(images[split.train]) & set(images[split.test])
        assert (len(set(y[split.test])) < 2) == (k in folds.unjudged)
    for split in inner_splits(y, images, 3, seed):
        assert not set(images[split.train]) & set(images[split.test])
        assert len(set(y[split.train])) == len(set(y[split.test])) == 2


def test_stratified_shuffled_and_seeded():
    images, y = np.arange(2000) // 2, np.random.default_rng(0).random(2000) < 0.2
    y = y.astype(int)
    first, again, other = (outer_folds(y, images, 5, seed).fold for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).mean() > 0.5
    shares = [y[first == k].mean() for k in range(5)]
    assert max(shares) - min(shares) < 0.02


def test_a_fold_of_one_class_has_its_reason_and_no_warning():
    y = np.array([1, 1, 0, 0, 0, 0, 0, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds = outer_folds(y, np.arange(8) // 2, 4, 0)  # both positives are one image
    assert len(folds.unjudged) == 4
    assert list(folds.untrainable) == [folds.fold[0]]
    assert any("all its 2 test rows have label 0" in reason for reason in folds.unjudged.values())
    assert "training rows have label 0" in folds.unjudged[int(folds.fold[0])]


def test_too_few_images_or_rows_are_refused_with_the_remedy():
    y = np.array([0, 1] * 10)
    with pytest.raises(ProbeError, match=r"3 images cannot fill 5 folds.*`folds` 3"):
        outer_folds(y, np.arange(20) % 3, 5, 0)
    with pytest.raises(ProbeError, match="more images"):
        outer_folds(y, np.zeros(20), 5, 0)
    with pytest.raises(ProbeError, match="neither class has 5 rows"):
        outer_folds(np.array([0, 1, 0, 1, 0, 1]), np.arange(6), 5, 0)


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(2, 10))
@settings(max_examples=150, deadline=None)
def test_the_advice_on_folds_can_be_followed(seed, count, n_images):
    """Where a number is named, a study has folds with it; where none is named, there is none."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(n_images, 3 * n_images + 1))
    images = np.concatenate([np.arange(n_images), rng.integers(0, n_images, n - n_images)])
    y = (rng.random(n) < rng.choice([0.1, 0.3, 0.5])).astype(int)
    y[rng.integers(n)] = 1
    try:
        folds = study_folds(y, images, count, seed)
    except ProbeError as error:
        advice = re.search(r"pass `folds` (\d+)", str(error))
        if advice is not None:
            folds = study_folds(y, images, int(advice[1]), seed)
        else:
            assert "label more questions" in str(error)
            for other in range(3, count if count > 3 else 6):
                with pytest.raises(ProbeError):
                    study_folds(y, images, other, seed)
            return
    assert folds.count >= 3 and folds.count - len(folds.unjudged) >= 2


def test_two_images_are_too_few_whatever_the_folds():
    y = np.array([0, 1] * 10)
    for count in (2, 3, 5):
        with pytest.raises(ProbeError) as caught:
            study_folds(y, np.arange(20) % 2, count, 0)
        assert "pass `folds`" not in str(caught.value) and "on more images" in str(caught.value)


def test_inner_splits_of_too_few_rows_are_none():
    assert inner_splits(np.array([0, 1, 0, 1]), None, 3, 0) == ()
    assert inner_splits(np.array([0, 1] * 10), np.arange(20) % 2, 3, 0) == ()
    assert len(inner_splits(np.array([0, 1] * 10), None, 3, 0)) == 3


def test_the_watchman_sees_a_straddling_image():
    with pytest.raises(AssertionError, match="both sides"):
        _assert_apart([Split(np.array([0, 1]), np.array([2]))], np.array([5, 6, 5]))
