"""Controls and transfer are of the leading representation, of the joined rows, and split as they say."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from probes_fake import QUERY, labels_of, planted

from halp_probe.bootstrap import Draws
from halp_probe.probes.controls import RANDOM_BY_IMAGE, RANDOM_BY_IMAGE_ROWS, SHUFFLED_LABELS, controls
from halp_probe.probes.fitting.kinds import linear
from halp_probe.probes.fitting.splits import images_on_both_sides
from halp_probe.probes.judging.metrics import judge
from halp_probe.probes.judging.rows import Rows
from halp_probe.probes.nested import spread
from halp_probe.probes.study import Design, study
from halp_probe.probes.transfer import transfer


@pytest.fixture(scope="module")
def found():
    """The signal is in the second representation; the first sample has no label, so rows are not the shards'."""
    shards, y = planted(300, auroc=0.9)
    shards.texts["source"] = ["a", "b", "b"] * 100
    labels = labels_of(shards, y) | {"q0": None}
    return study(shards, labels, Design(group_columns=("source",), bootstrap=20)), shards


def test_controls_are_of_the_leading_representation(found):
    study_found, shards = found
    rows, folds = study_found.rows, study_found.folds
    assert study_found.sweep.leading == QUERY
    X = shards.arrays[QUERY][1:]
    expected = controls(linear(), X, rows.y, rows.image_codes, folds, 0)
    for ours, by_hand in zip(study_found.sweep.controls, expected, strict=True):
        np.testing.assert_array_equal(ours.score, by_hand.score)


def test_all_but_the_last_control_keep_images_apart(found):
    study_found, _ = found
    by_name = {control.name: control for control in study_found.sweep.controls}
    assert list(by_name) == [SHUFFLED_LABELS, RANDOM_BY_IMAGE, RANDOM_BY_IMAGE_ROWS]
    for name in (SHUFFLED_LABELS, RANDOM_BY_IMAGE):
        assert images_on_both_sides(by_name[name].folds, study_found.rows.image_codes) == 0
    assert images_on_both_sides(by_name[RANDOM_BY_IMAGE_ROWS].folds, study_found.rows.image_codes) > 50


def rows_of(shards, name):
    """All rows but the first, which has no label."""
    return shards.arrays[name][1:]


def test_transfer_is_of_the_joined_rows(found):
    study_found, shards = found
    rows, vectors = study_found.rows, {name: partial(rows_of, shards, name) for name in shards.arrays}
    by_hand = transfer(
        vectors,
        lambda images: linear(),
        "source",
        rows.groups["source"],
        rows.y,
        study_found.folds,
        rows.image_codes,
        Draws(count=20, seed=0),
    )
    assert study_found.transfers == (by_hand,)


def test_a_split_that_shares_nothing_spreads_nothing():
    rng = np.random.default_rng(0)
    y, models = rng.integers(0, 2, 200), rng.standard_normal((5, 200))
    assert spread(models[:1], y) == 1.0
    assert spread(models, y) == pytest.approx(np.sqrt(2))
    agreed = np.repeat(models[:1], 5, axis=0)
    assert spread(agreed, y) == pytest.approx(1.0)
    agreed[2] = np.nan  # a fold that could not be fitted
    assert spread(agreed, y) == pytest.approx(1.0)


def test_a_difference_is_as_wide_as_the_wider_of_its_sides():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    rows = Rows(y=y, fold=np.arange(200) % 4, images=np.arange(200))
    scores = {name: rng.standard_normal(200) + y for name in "ab"}
    plain = judge(scores, rows, Draws(count=200, seed=0))
    for wide in "ab":
        judged = judge(scores, rows, Draws(count=200, seed=0), {wide: 1.4})
        widths = [(d := each["a"].minus(each["b"])).high - d.low for each in (judged, plain)]
        assert widths[0] == pytest.approx(1.4 * widths[1])


def test_a_probe_that_is_no_better_than_its_best_baseline_is_told():
    shards, y = planted(300, auroc=0.8)
    told = replace(shards, columns={"first_token_entropy": shards.arrays[QUERY][:, 0].copy()})
    texts = [finding.text for finding in study(told, labels_of(told, y), Design(bootstrap=100)).findings]
    assert any("not shown to be better than first token entropy" in text for text in texts)
