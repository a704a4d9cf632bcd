"""Signals are found at their true strength, and nothing is found where nothing is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from probes_fake import QUERY, VISION, labels_of, planted
from sklearn.metrics import roc_auc_score

from halp_probe.probes.baselines import BASELINES, QuestionTextProbe
from halp_probe.probes.estimators import LinearProbe
from halp_probe.probes.features import join
from halp_probe.probes.metrics import judge
from halp_probe.probes.results import judge_sweep
from halp_probe.probes.splits import outer_folds
from halp_probe.probes.sweep import cross_fit, sweep


def judged(shards, y, *, kind="linear", folds=4, draws=200):
    rows = join(shards, labels_of(shards, y), shards.representations)
    split = outer_folds(rows.y, rows.image_codes, folds, 0)
    swept = sweep(shards, rows, split, kind, 0)
    return {result.name: result for result in judge_sweep(swept, rows, split, draws, 0).results}


@pytest.fixture(scope="module")
def results():
    return judged(*planted(2400, auroc=0.75))


def test_a_planted_signal_is_found_at_its_strength(results):
    found = results[QUERY].auroc
    assert found.value == pytest.approx(0.75, abs=0.025)
    assert found.low < 0.75 < found.high
    assert len(results[QUERY].Cs) == 4
    assert set(results[QUERY].Cs) <= set(LinearProbe().Cs)


def test_noise_texts_entropy_and_shuffled_labels_stay_at_chance(results):
    for name in (VISION, *BASELINES):
        assert results[name].auroc.low < 0.5 < results[name].auroc.high, name
    assert "must be about .5" in results["shuffled_labels"].note


def test_differences_are_those_of_the_values(results):
    query, text, entropy = results[QUERY], results["question_text"], results["first_token_entropy"]
    assert query.minus_text.value == pytest.approx(query.auroc.value - text.auroc.value)
    assert query.minus_entropy.low > 0
    assert text.minus_text is entropy.minus_entropy is results["shuffled_labels"].minus_text is None


def test_entropy_is_scored_as_it_is():
    shards, y = planted(300, auroc=0.75)
    shards.columns["first_token_entropy"][:] = y + 0.1
    assert judged(shards, y)["first_token_entropy"].auroc.value == 1  # higher entropy, higher risk


@pytest.mark.parametrize("gap", ["all", "one"])
def test_missing_entropy_is_nan_with_the_reason(gap):
    shards, y = planted(120, auroc=0.75)
    if gap == "all":
        shards = replace(shards, columns={}, texts={**shards.texts})
        del shards.texts["question"]
    else:
        shards.columns["first_token_entropy"][5] = np.nan
    results = judged(shards, y)
    assert np.isnan(results["first_token_entropy"].auroc.value)
    assert "first_token_entropy" in results["first_token_entropy"].note
    assert np.isnan(results[QUERY].minus_entropy.value)
    assert np.isnan(results["question_text"].auroc.value) == (gap == "all")
    assert np.isfinite(results[QUERY].auroc.value)


def test_a_lookup_of_the_image_gains_nothing_across_images_and_much_across_rows():
    """The vector names the image alone. Labels go with the image, so a row-wise split lets the probe look them up."""
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(400), 4)
    X = rng.standard_normal((400, 128)).astype(np.float32)[images]
    y = (rng.random(400)[images] * 0.8 + 0.2 * rng.random(1600) > 0.5).astype(int)
    found = {}
    for name, groups in (("by image", images), ("by row", np.arange(1600))):
        folds = outer_folds(y, groups, 5, 0)
        fit = cross_fit(LinearProbe(), X, y, groups, folds)
        found[name] = judge({"p": fit.risk}, y, folds.fold, images, 300, 0)["p"].estimate
    assert found["by image"].low < 0.5
    assert found["by image"].value < 0.6
    assert found["by row"].low > 0.65


def test_out_of_fold_scores_are_those_of_a_loop_by_hand():
    shards, y = planted(240, auroc=0.75)
    images = np.arange(240) // 3
    folds = outer_folds(y, images, 3, 0)
    fit = cross_fit(LinearProbe(), shards.arrays[QUERY], y, images, folds)
    for k in range(3):
        train, test = folds.fold != k, folds.fold == k
        probe = LinearProbe().fit(shards.arrays[QUERY][train], y[train], images[train])
        np.testing.assert_allclose(fit.risk[test], probe.predict_proba(shards.arrays[QUERY][test])[:, 1], atol=1e-9)
        assert fit.Cs[k] == probe.C_
    everything = LinearProbe().fit(shards.arrays[QUERY], y, images)
    np.testing.assert_allclose(fit.final.coef_, everything.coef_, atol=1e-9)


def test_a_fold_that_cannot_be_fitted_is_nan_with_the_reason():
    shards, _ = planted(24, auroc=0.75)
    y = np.array([1, 1, 1] + [0] * 21)  # all positives on one image
    results = judged(shards, y, folds=4)
    assert np.isnan(results[QUERY].auroc.value)
    assert "training rows have label 0" in results[QUERY].note
    assert "test rows have label 0" in results[QUERY].note


def test_mlp_goes_through_the_same_folds():
    shards, y = planted(150, auroc=0.95)
    shards.arrays.pop(VISION)
    results = judged(shards, y, kind="mlp", folds=2, draws=20)
    assert results[QUERY].auroc.value > 0.8
    assert results[QUERY].Cs == ()


def test_text_baseline_finds_a_telling_wording_and_survives_blank_texts():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    texts = np.array([f"how many {'cats' if label ^ (rng.random() < 0.2) else 'dogs'}" for label in y], dtype=object)
    texts[:10] = ""
    texts[10:12] = "??"
    groups = np.arange(300) // 2
    probe = QuestionTextProbe().fit(texts[:200], y[:200], groups[:200])
    assert probe.C_ in probe.Cs
    assert roc_auc_score(y[200:], probe.predict_proba(texts[200:])[:, 1]) > 0.7
    blank = QuestionTextProbe().fit(np.array([""] * 40, dtype=object), np.arange(40) % 2)
    np.testing.assert_allclose(blank.predict_proba(np.array(["", "new"], dtype=object)), 0.5, atol=1e-6)
