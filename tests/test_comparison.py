"""Two folders of shards compared: what is equal is told so exactly, what is not comparable is refused or nan."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from shard_data import ATTRIBUTES, columns, write_group_per_question

from halp_probe.bootstrap import Draws
from halp_probe.cli import main
from halp_probe.comparison.compare import Comparison, Movement, compare
from halp_probe.comparison.outputs import side_name, summary, table
from halp_probe.comparison.pairing import PairError, pair
from halp_probe.comparison.plot import comparison_svg
from halp_probe.shards.columns import Columns
from halp_probe.shards.names import shard_name
from halp_probe.shards.reader import Shards, open_shards
from halp_probe.shards.writer import write_shard

KNOWN: dict[str, Any] = {**ATTRIBUTES, "chat_template_sha256": "c0ffee", "num_layers": 28, "max_new_tokens": 8}
IDS = [f"q{k}" for k in range(40)]
ENCODER, LAST = "vision_encoder_representation", "query_token_representation/layer_7"


def data(**kwargs: Any) -> Columns:
    """40 questions on 20 images; `width`, `layers` and `seed` are those of the vectors."""
    found = replace(columns(IDS, **kwargs), numbers=columns(IDS).numbers)
    found.texts["image_sha256"] = [f"{k // 2:064x}" for k in range(40)]
    return found


def moved(by: float = 0.5) -> Columns:
    """The same as `data()`, but for the query tokens of layer 7 and every tenth answer."""
    found = data()
    noise = np.random.default_rng(1).normal(size=found.vectors[LAST].shape)
    found.vectors[LAST] = (found.vectors[LAST] + by * noise).astype(np.float32)
    found.texts["answer"][::10] = [f"other {k}" for k in range(4)]
    return found


def stored(folder: Path, side: Columns, attributes: dict[str, Any] | None = None, **kwargs: Any) -> Shards:
    folder.mkdir()
    write_shard(folder / shard_name("m", 1), side, {**KNOWN, **(attributes or {})}, **kwargs)
    return open_shards(folder)


def compared(tmp_path: Path, a: Columns, b: Columns, **attributes: Any) -> Comparison:
    return compare(pair(stored(tmp_path / "a", a), stored(tmp_path / "b", b, attributes)), Draws(count=50, seed=0))


def by_name(found: Comparison) -> dict[str, Movement]:
    return {movement.representation: movement for movement in found.movements}


def test_what_did_not_move_is_told_exactly_and_in_words(tmp_path: Path) -> None:
    found = compared(tmp_path, data(), moved())
    for name, movement in by_name(found).items():
        still = name != LAST
        assert movement.unmoved == still
        if still:
            numbers = (movement.relative_l2.value, movement.relative_l2.high, movement.relative_l2_max)
            assert numbers == (0, 0, 0) and movement.cosine_min == movement.cosine.value == movement.cka == 1
    assert f"{ENCODER}: identical, the difference is exactly 0 in all 40 rows" in summary(found)
    assert f"{LAST}: identical" not in table(found) and f"moved most: {LAST}" in table(found)
    assert found.notes == ()


def test_small_numbers_and_their_intervals_stand_apart(tmp_path: Path) -> None:
    """As between a model with an adapter and a merge of it."""
    found = compared(tmp_path, data(), moved(1.23e-5))
    (line,) = (line for line in table(found).splitlines() if line.startswith(f"{LAST} "))
    l2, low, to, high = line.split()[1:5]
    estimate = by_name(found)[LAST].relative_l2
    assert (l2, low, to, high) == (f"{estimate.value:.3g}", f"{estimate.low:.3g}", "to", f"{estimate.high:.3g}")
    assert all("e-0" in number for number in (l2, low, high))


def test_what_moved_in_few_rows_or_by_little_is_not_called_identical(tmp_path: Path) -> None:
    few = data()
    few.vectors[LAST][7] *= np.float32(1.000001)
    few.vectors[LAST][7, 0] += np.float32(1e-6)
    found = compared(tmp_path, data(), few)
    movement = by_name(found)[LAST]
    assert movement.identical == 39 and not movement.unmoved and movement.relative_l2.value > 0
    shown = table(found)
    assert f"{LAST}: identical" not in shown
    (line,) = (line for line in shown.splitlines() if line.startswith(f"{LAST} "))
    assert line.split()[-2] == "0.99999" and line.split()[-1] == "0.999"  # nearly 1, and not shown as 1


def test_what_moved_is_the_mean_over_rows(tmp_path: Path) -> None:
    a, b = data().vectors[LAST].astype(np.float64), moved().vectors[LAST].astype(np.float64)
    relative = np.linalg.norm(b - a, axis=1) / np.linalg.norm(a, axis=1)
    cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    movement = by_name(compared(tmp_path, data(), moved()))[LAST]
    found = (movement.relative_l2.value, movement.relative_l2_median, movement.relative_l2_max)
    assert found == pytest.approx((relative.mean(), np.median(relative), relative.max()), rel=1e-9)
    assert (movement.cosine.value, movement.cosine_min) == pytest.approx((cosine.mean(), cosine.min()), rel=1e-9)
    assert movement.relative_l2.low < movement.relative_l2.value < movement.relative_l2.high
    assert 0.5 < movement.cka < 1 and (movement.rows, movement.images, movement.identical) == (40, 20, 0)


def test_rows_are_matched_by_question_id(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(40).tolist()
    found = compared(tmp_path, data(), data().take(order))
    assert all(movement.unmoved for movement in found.movements) and found.answers and not found.answers.changed


def test_changed_answers(tmp_path: Path) -> None:
    answers = compared(tmp_path, data(), moved()).answers
    assert answers is not None and answers.share.value == 0.1 and answers.share.low < 0.1 < answers.share.high
    assert [(c.question_id, c.answer_a, c.answer_b) for c in answers.changed[:2]] == [
        ("q0", "answer q0", "other 0"),
        ("q10", "answer q10", "other 1"),
    ]


def test_answers_that_cannot_be_compared(tmp_path: Path) -> None:
    silent = data()
    silent.texts["answer"] = [""] * 40
    found = compared(tmp_path, data(), silent)
    assert found.answers is None and found.notes == ("answers are not compared: a side has none",)
    longer = compare(
        pair(open_shards(tmp_path / "a"), stored(tmp_path / "c", moved(), {"max_new_tokens": 9})),
        Draws(count=50, seed=0),
    )
    assert longer.answers is None and "at most 8 tokens in A and 9 in B" in longer.notes[0]


def test_other_widths_have_cka_alone(tmp_path: Path) -> None:
    found = compared(tmp_path, data(), data(width=12, seed=1))
    for movement in found.movements:
        assert np.isnan([movement.relative_l2.value, movement.relative_l2_max, movement.cosine_min]).all()
        assert np.isfinite(movement.cka) and movement.identical is None and not movement.unmoved
        assert movement.note == "only CKA: the width is 8 in A and 12 in B"
    assert "nan" in table(found)


@pytest.mark.parametrize("attribute", [{"num_layers": 36}, {"config_model_type": "llava"}])
def test_other_architectures_have_cka_alone_though_equally_wide(tmp_path: Path, attribute: dict[str, Any]) -> None:
    a = stored(tmp_path / "a", data(), {"config_model_type": "qwen2_vl"})
    movement = compare(
        pair(a, stored(tmp_path / "b", moved(), {"config_model_type": "qwen2_vl", **attribute}))
    ).movements[0]
    assert np.isnan(movement.relative_l2.value) and movement.cka == 1
    assert f"only CKA: {next(iter(attribute))} is" in movement.note


def test_rows_without_a_vector_are_counted(tmp_path: Path) -> None:
    a, b = data(), moved()
    a.vectors[LAST][3, 2], b.vectors[LAST][4] = np.nan, np.inf
    movement = by_name(compared(tmp_path, a, b))[LAST]
    assert movement.rows == 38 and movement.note == "2 of 40 rows are left out: no finite vector on one side"
    keep = [row for row in range(40) if row not in (3, 4)]
    (tmp_path / "kept").mkdir()
    kept = by_name(compared(tmp_path / "kept", data().take(keep), moved().take(keep)))[LAST]
    assert replace(movement, note="") == kept


def test_vectors_of_length_zero_are_told(tmp_path: Path) -> None:
    a = data()
    a.vectors[LAST][:2] = 0
    movement = by_name(compared(tmp_path, a, data()))[LAST]
    assert (
        movement.note.startswith("2 rows have no cosine: a vector of length zero") and movement.relative_l2.value == 0
    )


def test_no_row_with_a_vector(tmp_path: Path) -> None:
    b = moved()
    b.vectors[LAST][:] = np.nan
    movement = by_name(compared(tmp_path, data(), b))[LAST]
    assert movement.rows == 0 and np.isnan(movement.relative_l2.value) and not movement.unmoved
    assert "40 of 40 rows are left out" in movement.note


def altered(column: str) -> Columns:
    found = data()
    if column in found.texts:
        found.texts[column][5] = "another"
    else:
        found.numbers[column][5] += 1
    return found


@pytest.mark.parametrize(
    "column", ["question", "image_sha256", "token_index/vision", "token_index/query", "token_id/query"]
)
def test_other_questions_images_and_positions_are_refused(tmp_path: Path, column: str) -> None:
    with pytest.raises(PairError, match=f"^{column} differs in 1 of 40 questions; 'q5' has .* in A and .* in B: "):
        compared(tmp_path, data(), altered(column))


@pytest.mark.parametrize("name", ["chat_template_sha256", "prompt", "max_pixels", "layer_meaning"])
def test_other_prompts_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PairError, match=f"^{name} is .* in A and 'x' in B, so the models saw different prompts"):
        compared(tmp_path, data(), data(), **{name: "x"})


def test_questions_of_one_side_are_refused_or_left_out(tmp_path: Path) -> None:
    a, b = stored(tmp_path / "a", data()), stored(tmp_path / "b", moved().take(range(1, 40)))
    with pytest.raises(PairError, match=r"1 of 40 questions are in A alone \(first 'q0'\); .* pass `common_only`"):
        pair(a, b)
    found = compare(pair(a, b, common_only=True), Draws(count=50, seed=0))
    assert found.rows == 39 and "left out: 1 of 40 questions are in A alone (first 'q0')" in found.notes
    other = stored(tmp_path / "c", columns(["z1", "z2"]))
    with pytest.raises(PairError, match="no question in common: A's first is 'q0', B's 'z1'"):
        pair(a, other, common_only=True)


def test_a_folder_is_not_compared_with_itself(tmp_path: Path) -> None:
    a = stored(tmp_path / "a", data())
    (tmp_path / "c").mkdir()
    with pytest.raises(PairError, match="would be compared with itself"):
        pair(a, open_shards(tmp_path / "c" / ".." / "a"))


def test_layers_of_one_side_are_named(tmp_path: Path) -> None:
    found = compared(tmp_path, data(), data(layers=(7, 9)))
    assert [movement.layer for movement in found.movements] == [None, None, 7, 7]
    assert any(note.startswith("in B alone, not compared: vision_token_representation/layer_9") for note in found.notes)
    a, b = data(), data()
    for side, kept in ((a, ENCODER), (b, LAST)):
        for name in set(side.vectors) - {kept}:
            del side.vectors[name]
    with pytest.raises(PairError, match=f"no representation in common: A has {ENCODER}; B has {LAST}"):
        pair(stored(tmp_path / "c", a), stored(tmp_path / "d", b))


def test_what_is_not_training_is_named(tmp_path: Path) -> None:
    a = stored(tmp_path / "a", data())
    b = stored(tmp_path / "b", data(), {"dtype": "bfloat16"}, store_dtype="bfloat16", question_view=False)
    (note,) = compare(pair(a, b), Draws(count=50, seed=0)).notes
    assert "dtype is float32 in A and bfloat16 in B" in note
    assert "vectors are stored as float32 in A and bfloat16 in B" in note and "rounding" in note


def test_files_of_other_halp_code(tmp_path: Path) -> None:
    """They tell neither prompt nor positions nor the pictures' content, and that is said."""
    a = stored(tmp_path / "a", data())
    (tmp_path / "b").mkdir()
    write_group_per_question(tmp_path / "b" / "x.h5", data())
    found = compare(pair(a, open_shards(tmp_path / "b")), Draws(count=50, seed=0))
    assert found.movements and all(movement.unmoved for movement in found.movements)
    assert any("B has no record of its prompt" in note for note in found.notes)
    assert any("told apart by image_id" in note for note in found.notes)


def test_an_unfinished_run_is_told(tmp_path: Path) -> None:
    b = stored(tmp_path / "b", data())
    (tmp_path / "b" / "journal").mkdir()
    write_shard(tmp_path / "b" / "journal" / "1.h5", columns(["late"]), ATTRIBUTES)
    assert any(n.startswith("B: the run is not") for n in compare(pair(stored(tmp_path / "a", data()), b)).notes)


def test_a_name_tells_the_adapters(tmp_path: Path) -> None:
    assert side_name(stored(tmp_path / "a", data())) == f"{KNOWN['model_name']} at abc"
    with_adapters = stored(tmp_path / "b", data(), {"adapter_names": '["one", "two"]'})
    assert side_name(with_adapters) == f"{KNOWN['model_name']} at abc with adapter one, two"
    changed = stored(tmp_path / "c", data(), {"intervention": "the probe's direction: removed"})
    assert side_name(changed) == f"{KNOWN['model_name']} at abc under the probe's direction: removed"


def test_the_command_compares_two_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(tmp_path / "a", data())
    stored(tmp_path / "b", moved())
    out = tmp_path / "out"
    call = ["compare", "--shards", str(tmp_path / "a"), "--shards", str(tmp_path / "b"), "--output-dir", str(out)]
    assert main([*call, "--bootstrap", "50"]) == 0
    shown = capsys.readouterr().out
    assert f"{ENCODER}: identical, the difference is exactly 0 in all 40 rows" in shown
    assert "answers: 4 of 40 changed, 10.0 %" in shown
    with (out / "comparison.csv").open() as file:
        rows = {row["representation"]: row for row in csv.DictReader(file)}
    assert rows[ENCODER]["relative_l2_mean"] == "0.0" and rows[ENCODER]["cosine_min"] == "1.0"
    assert rows[ENCODER]["identical_rows"] == "40" and rows[LAST]["identical_rows"] == "0"
    found = by_name(compare(pair(open_shards(tmp_path / "a"), open_shards(tmp_path / "b")), Draws(count=50, seed=0)))[
        LAST
    ]
    assert float(rows[LAST]["relative_l2_low"]) == found.relative_l2.low and float(rows[LAST]["cka"]) == found.cka
    with (out / "changed_answers.csv").open() as file:
        assert [row["question_id"] for row in csv.DictReader(file)] == ["q0", "q10", "q20", "q30"]
    assert ElementTree.parse(out / "comparison.svg").getroot().tag.endswith("svg")


def test_the_plot_shows_each_representation_in_each_panel_and_is_the_same_every_time(tmp_path: Path) -> None:
    found = compared(tmp_path, data(), moved())
    drawn = comparison_svg(found, "A $1$ <model>", "B")
    assert drawn == comparison_svg(found, "A $1$ <model>", "B")
    texts = {element.text for element in ElementTree.fromstring(drawn).iter() if element.text}
    assert {"A: A $1$ <model>", "vision token", "query token", "vision encoder mean", "decoder layer"} <= texts


def test_the_plot_says_what_is_not_defined(tmp_path: Path) -> None:
    drawn = comparison_svg(compared(tmp_path, data(), data(width=12, seed=1)), "A", "B").decode()
    assert drawn.count("not defined") >= 2
