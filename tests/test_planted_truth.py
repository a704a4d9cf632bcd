"""Signals of known strength are found where they are and at their strength; nothing is found where nothing is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from probes_fake import FakeShards, labels_of, planted
from scipy.stats import norm

from halp_probe.bootstrap import Draws
from halp_probe.probes.baselines import LOOKUP
from halp_probe.probes.controls import RANDOM_BY_IMAGE, RANDOM_BY_IMAGE_ROWS
from halp_probe.probes.fitting.kinds import linear
from halp_probe.probes.fitting.splits import outer_folds
from halp_probe.probes.judging.metrics import judge
from halp_probe.probes.judging.rows import Rows
from halp_probe.probes.nested import cross_fit
from halp_probe.probes.results import SELECTED
from halp_probe.probes.study import Design, study
from halp_probe.probes.training_sets import training_sets

pytestmark = pytest.mark.slow

LAYERS = (0, 7, 14, 21, 27)


def studied(shards: FakeShards, y: np.ndarray, **design):
    return study(shards, labels_of(shards, y), Design(**{"bootstrap": 300, **design}))


def test_labels_of_the_image_alone_are_not_found_across_images_and_are_found_across_rows():
    """The vector names the image, and so does the label: a split by row lets a probe look the label up."""
    rng = np.random.default_rng(0)
    shards, _ = planted(2000, auroc=0.5, width=160, per_image=10)
    images = np.arange(2000) // 10
    name = next(iter(shards.arrays))
    X = (rng.standard_normal((200, 160))[images] + 0.1 * rng.standard_normal((2000, 160))).astype("f4")
    shards.arrays[name] = X
    y = rng.integers(0, 2, 200)[images]
    found = studied(shards, y, representations=(name,))
    honest = found.judgement.result(SELECTED).auroc
    assert honest.low < 0.5 < honest.high
    by_row = outer_folds(y, None, 5, 0)
    sets = training_sets(y, by_row)
    score = cross_fit(linear()(X, y, sets.train), y, by_row, sets).score
    assert (
        judge({"by row": score}, Rows(y=y, fold=by_row.fold, images=images), Draws(count=2, seed=0))["by row"].value
        > 0.9
    )
    controls = {result.name: result.auroc for result in found.judgement.of_kind("control")}
    assert controls[RANDOM_BY_IMAGE].low < 0.5 < controls[RANDOM_BY_IMAGE].high
    assert controls[RANDOM_BY_IMAGE_ROWS].low > 0.8
    assert any("it can remember of the images" in finding.text for finding in found.findings)


@pytest.fixture(scope="module")
def one_layer():
    """A signal of AUROC .75 in one of five layers, noise in the others."""
    shards, y = planted(3000, auroc=0.5, seed=3)
    rng = np.random.default_rng(3)
    arrays = {f"query_token_representation/layer_{k}": rng.standard_normal((3000, 16)).astype("f4") for k in LAYERS}
    arrays["query_token_representation/layer_14"][:, 5] += np.sqrt(2) * norm.ppf(0.75) * y
    return studied(replace(shards, arrays=arrays), y)


def test_a_signal_in_one_layer_is_found_there_at_its_strength(one_layer):
    judgement = one_layer.judgement
    for name in (SELECTED, "query_token_representation/layer_14"):
        auroc = judgement.result(name).auroc
        assert auroc.value == pytest.approx(0.75, abs=0.025)
        assert auroc.low < 0.75 < auroc.high
    for layer in set(LAYERS) - {14}:
        auroc = judgement.result(f"query_token_representation/layer_{layer}").auroc
        assert auroc.low < 0.5 < auroc.high or auroc.value == pytest.approx(0.5, abs=0.03)


def test_the_inner_folds_select_the_layer_that_has_it(one_layer):
    assert one_layer.sweep.selected.counts == {"query_token_representation/layer_14": 5}
    assert one_layer.sweep.best_over_all == "query_token_representation/layer_14"
    difference = one_layer.judgement.difference(
        "query_token_representation/layer_14", "query_token_representation/layer_7"
    )
    assert difference.low > 0.15


def test_selecting_among_noise_gains_nothing():
    """The best of twenty layers of noise looks good; the selected probe does not."""
    shards, y = planted(300, auroc=0.5, seed=5)
    rng = np.random.default_rng(5)
    arrays = {f"query_token_representation/layer_{k}": rng.standard_normal((300, 4)).astype("f4") for k in range(20)}
    judgement = studied(replace(shards, arrays=arrays), y).judgement
    best = max(result.auroc.value for result in judgement.of_kind("representation"))
    auroc = judgement.result(SELECTED).auroc
    assert best > 0.54
    assert auroc.low < 0.5 < auroc.high
    assert auroc.value < best - 0.02


def test_shuffled_labels_lie_in_the_interval_of_chance():
    """In at least 93 of 100 seeds; the images' rows are not shuffled together."""
    shards, y = planted(300, auroc=0.8)
    images, X = np.arange(300) // 3, shards.arrays["query_token_representation/layer_3"]
    held = 0
    for seed in range(100):
        labels = np.random.default_rng(seed).permutation(y)
        folds = outer_folds(labels, images, 5, seed)
        sets = training_sets(labels, folds)
        score = cross_fit(linear()(X, labels, sets.train), labels, folds, sets).score
        rows = Rows(y=labels, fold=folds.fold, images=images)
        auroc = judge({"shuffled": score}, rows, Draws(count=300, seed=seed))["shuffled"].control
        held += auroc.low <= 0.5 <= auroc.high
    assert held >= 93


def test_a_source_that_explains_everything_is_told():
    shards, y = planted(900, auroc=0.7)
    rng = np.random.default_rng(0)
    shards.texts["source"] = [("hard" if label ^ (rng.random() < 0.05) else "easy") for label in y]
    found = studied(shards, y, group_columns=("source",))
    lookup = found.judgement.result(LOOKUP + "source").auroc.value
    assert lookup > 0.9
    assert found.judgement.best_baseline.title == "lookup of source"
    serious = [finding.text for finding in found.findings if finding.level == "serious"]
    assert any(text.startswith(f"A lookup of `source` reaches .{round(100 * lookup)}: above the") for text in serious)
    assert any("is worse than lookup of source" in text for text in serious)


def test_entropy_is_scored_as_it_is_and_log_probabilities_turned():
    shards, y = planted(300, auroc=0.75)
    shards.columns["first_token_entropy"][:] = y + 0.1
    shards.columns["first_token_logprob"] = -y - 0.1
    shards.columns["answer_logprob"] = -y - 0.1
    shards.columns["answer_tokens"] = 5 - y  # short answers are the wrong ones
    judgement = studied(shards, y, bootstrap=20).judgement
    for name in ("first_token_entropy", "first_token_logprob", "answer_logprob", "answer_length"):
        assert judgement.result(name).auroc.value == 1
    del shards.columns["answer_logprob"]
    missing = studied(shards, y, bootstrap=20).judgement.result("answer_logprob")
    assert np.isnan(missing.auroc.value)
    assert "the shards have no answer_logprob" in missing.note
