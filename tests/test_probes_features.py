"""The join is by id, and whatever is left out is named."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from probes_fake import QUERY, VISION, labels_of, planted

from halp_probe.probes.errors import ProbeError
from halp_probe.probes.features import LeftOut, choose_representations, join


@pytest.fixture
def shards():
    return planted(12, auroc=0.8)[0]


def labels(shards):
    return labels_of(shards, np.arange(12) % 2)


def test_matched_by_id_not_by_order(shards):
    backwards = dict(reversed(labels(shards).items()))
    rows = join(shards, backwards, shards.representations)
    assert rows.question_ids == shards.question_ids
    assert (rows.y == np.arange(12) % 2).all()
    assert not rows.left_out


def test_every_sample_is_used_or_named(shards):
    given = labels(shards)
    given["q3"] = None
    del given["q4"], given["q5"]
    shards.arrays[QUERY][7] = np.nan
    rows = join(shards, given, shards.representations)
    assert rows.left_out == (
        LeftOut("q3", "label unknown"),
        LeftOut("q4", "not in the labels file"),
        LeftOut("q5", "not in the labels file"),
        LeftOut("q7", f"no {QUERY}"),
    )
    assert rows.question_ids == ("q0", "q1", "q2", "q6", "q8", "q9", "q10", "q11")
    assert (rows.vectors(shards, VISION) == shards.arrays[VISION][rows.index]).all()  # the same rows everywhere
    kept = [0, 1, 2, 6, 8, 9, 10, 11]
    assert rows.numbers["first_token_entropy"].tolist() == shards.columns["first_token_entropy"][kept].tolist()
    assert rows.questions == tuple(shards.texts["question"][row] for row in kept)
    assert rows.images == tuple(shards.texts["image_sha256"][row] for row in kept)
    assert (
        len(set(rows.numbers["first_token_entropy"])) == 8 and len(set(rows.questions)) > 1
    )  # so that a misaligned column would show
    assert "2 samples left out: not in the labels file (q4, q5)" in rows.notes
    assert f"1 samples left out: no {QUERY} (q7)" in rows.notes


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_damaged_vector_is_an_error_with_name_and_id(shards, value):
    shards.arrays[QUERY][7, 2] = value
    with pytest.raises(ProbeError, match=f"{QUERY} of 'q7' holds NaN or infinite"):
        join(shards, labels(shards), shards.representations)


def test_labels_for_other_ids(shards):
    with pytest.raises(ProbeError, match="labels for other ids: none of 2 labels"):
        join(shards, {"a": 0, "b": 1}, shards.representations)
    with pytest.raises(ProbeError, match="no rows"):
        join(shards, {}, shards.representations)
    rows = join(shards, {**labels(shards), "a": 0, "b": 1}, shards.representations)
    assert "2 of 14 labels have no sample in the shards (first: 'a')" in rows.notes


@pytest.mark.parametrize(("label", "name"), [(0, r"0 \(right\)"), (1, r"1 \(hallucinated\)")])
def test_one_class(shards, label, name):
    with pytest.raises(ProbeError, match=f"all 12 usable samples have label {name}"):
        join(shards, dict.fromkeys(shards.question_ids, label), shards.representations)


def test_no_row_left(shards):
    shards.arrays[QUERY][:] = np.nan
    with pytest.raises(ProbeError, match=f"no sample is left .12 samples left out: no {QUERY}.*`representations`"):
        join(shards, labels(shards), shards.representations)
    assert len(join(shards, labels(shards), (VISION,)).y) == 12


def test_a_label_that_is_no_label(shards):
    with pytest.raises(ProbeError, match="label 2 of 'q1'"):
        join(shards, {**labels(shards), "q1": 2}, shards.representations)


def test_images_are_told_apart_by_content(shards):
    shards.texts["image_sha256"][:6] = ["copy"] * 6  # two ids, one file
    rows = join(shards, labels(shards), shards.representations)
    assert len(set(rows.images)) == len(set(rows.image_codes)) == 3
    assert "by the content of their files" in rows.notes[-1]


def test_prompts_that_share_one_of_several_images_are_of_one_set(shards):
    shown = [
        ["a", "b"],
        ["b", "a"],
        ["b", "c"],
        ["d"],
        ["e", "f"],
        ["d"],
        ["g"],
        ["h"],
        ["i"],
        ["j"],
        ["k"],
        ["l", "c"],
    ]
    shards.texts["images"] = [json.dumps(files) for files in shown]
    shards.texts["image_sha256"] = [f"of {' and '.join(files)}" for files in shown]
    shards.texts["image_sha256"][7] = "of g"  # a copy under another name
    rows = join(shards, labels(shards), shards.representations)
    sets = [[0, 1, 2, 11], [3, 5], [4], [6, 7], [8], [9], [10]]
    assert [np.flatnonzero(rows.image_codes == code).tolist() for code in dict.fromkeys(rows.image_codes)] == sets
    assert rows.images[3] == "of d" and rows.images_identified_by == "image_sha256"
    assert rows.notes[-1].startswith("7 sets of images")


@pytest.mark.parametrize("hashes", [None, [""] + ["x"] * 11])
def test_without_hashes_images_are_told_apart_by_id_and_it_is_said(shards, hashes):
    texts = {name: texts for name, texts in shards.texts.items() if name != "image_sha256"}
    without = replace(shards, texts=texts if hashes is None else {**texts, "image_sha256": hashes})
    rows = join(without, labels(shards), shards.representations)
    assert rows.images == tuple(shards.texts["image_id"])
    assert "by image_id" in rows.notes[-1]


def test_shards_without_texts_and_entropy(shards):
    bare = replace(shards, texts={"image_id": shards.texts["image_id"]}, columns={})
    rows = join(bare, labels(shards), shards.representations)
    assert rows.questions is None and rows.numbers == {}
    with pytest.raises(ProbeError, match="neither image_sha256 nor image_id"):
        join(replace(bare, texts={}), labels(shards), shards.representations)


def test_choice_of_representations():
    assert choose_representations(("a", "b", "c"), ["c", "a"]) == ("a", "c")
    assert choose_representations(("a", "b"), None) == ("a", "b")
    with pytest.raises(ProbeError, match="no representation 'x'; they have: a, b"):
        choose_representations(("a", "b"), ["x"])
    with pytest.raises(ProbeError, match="hold no representation"):
        choose_representations((), None)


def test_group_columns_follow_the_rows(shards):
    shards.texts["source"] = [f"s{row}" for row in range(12)]
    given = labels(shards) | {"q3": None}
    rows = join(shards, given, shards.representations, ["source"])
    assert rows.groups == {"source": tuple(f"s{row}" for row in range(12) if row != 3)}
    with pytest.raises(ProbeError, match="'origin' is not an extra column of the table; the shards have: source"):
        join(shards, given, shards.representations, ["origin"])
    with pytest.raises(ProbeError, match="'question' is not an extra column"):
        join(shards, given, shards.representations, ["question"])


def test_a_column_of_many_values_is_no_group_column():
    shards, y = planted(120, auroc=0.8)
    shards.texts["difficulty"] = [f"{row}" for row in range(120)]
    with pytest.raises(ProbeError, match="'difficulty' has 120 different values"):
        join(shards, labels_of(shards, y), shards.representations, ["difficulty"])
