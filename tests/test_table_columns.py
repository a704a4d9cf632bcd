"""VQA tables of every form and with other names: the same samples as from the CSV of our columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_tables import WRITERS

from halp_probe.datasets import TableError, read_table
from halp_probe.labels.table import LabelError, read_labels, read_reviewed_labels
from halp_probe.records import Sample
from halp_probe.shards.columns import RESERVED_COLUMNS
from halp_probe.tables.mapping import value_at

ROWS = [
    {"question_id": "007", "image_id": "a.png", "question": 'Is "it", or not?', "answer": "None", "kind": "NA"},
    {"question_id": "q/2", "image_id": "b c.png", "question": "How\nmany?", "answer": "1.0", "kind": ""},
]
ALL_IDS = dict.fromkeys(("question_id", "image_id", "question", "answer"), "id")
OTHERS = {"question_id": "index", "image_id": "picture", "question": "text", "answer": "label"}


def samples(*args: object, **options: object) -> tuple[Sample, ...]:
    read = read_table(*args, **options)  # type: ignore[arg-type]
    assert not read.failures
    return read.samples


@pytest.mark.parametrize("name", WRITERS)
def test_every_form_gives_the_samples_of_the_csv(tmp_path: Path, name: str) -> None:
    WRITERS["a.csv"](ROWS, tmp_path / "table.csv")
    WRITERS[name](ROWS, tmp_path / name)
    expected = samples(tmp_path / "table.csv")
    assert samples(tmp_path / name) == expected
    assert expected[0].extra == {"kind": "NA"} and expected[0].answer == "None"
    renamed = [{OTHERS.get(ours, ours): text for ours, text in row.items()} for row in ROWS]
    WRITERS[name](renamed, tmp_path / name)
    assert samples(tmp_path / name, columns=OTHERS) == expected
    assert samples(pd.DataFrame(renamed), columns=OTHERS) == expected == samples(renamed, columns=OTHERS)


def test_dotted_paths_lead_into_values(tmp_path: Path) -> None:
    row = {
        "id": 1,
        "meta": {"file": "a.png", "kind": "x", "deep.er": 2},
        "choices": ["cat", "dog"],
        "gold": 1,
        "turns": [{"from": "human", "value": "Which?"}],
    }
    columns = {
        "question_id": "id",
        "image_id": "meta.file",
        "question": "turns.0.value",
        "answer": "choices.1",
        "group": "meta.deep.er",
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    for table in (tmp_path / "a.jsonl", tmp_path / "a.parquet", [row]):
        (sample,) = samples(table, columns=columns)
        assert (sample.question_id, sample.image_id, sample.question, sample.answer) == ("1", "a.png", "Which?", "dog")
        assert sample.extra.pop("group") == "2" and sample.extra["choices"] == '["cat","dog"]'  # type: ignore[attr-defined]
        assert set(sample.extra) == {"meta", "choices", "gold", "turns"} and sample.extra["gold"] == "1"


def test_a_column_of_that_name_is_meant_before_a_path() -> None:
    values: Mapping[str, object] = {"a.b": 1, "a": {"b": 2, "c": None}, "l": [[3]]}
    assert [value_at(values, path) for path in ("a.b", "a.c", "a.c.d", "l.0.0")] == [1, None, None, 3]
    for path in ("a.x", "l.1", "l.-1", "l.x", "b", "a.b.c"):
        with pytest.raises(LookupError):
            value_at(values, path)


def test_our_name_goes_before_a_column_that_has_it() -> None:
    row = {**ROWS[0], "question_en": "Where?", "gt_answer": "y"}
    (sample,) = samples([row], columns={"question": "question_en", "answer": "gt_answer"})
    assert (sample.question, sample.answer, dict(sample.extra)) == ("Where?", "y", {"kind": "NA"})
    (sample,) = samples([{**ROWS[0], "sort": "a"}], columns={"kind": "sort"})
    assert sample.extra == {"kind": "a"}
    (sample,) = samples([{**ROWS[0], "meta": {"sort": "a"}}], columns={"kind": "meta.sort"})
    assert sample.extra == {"kind": "a", "meta": '{"sort":"a"}'}


def test_objects_need_not_have_the_same_further_columns(tmp_path: Path) -> None:
    first, second = ({**row} for row in ROWS)
    del first["kind"]
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(first)}\n{json.dumps(second | {'more': None})}\n")
    assert [dict(each.extra) for each in samples(tmp_path / "a.jsonl")] == [{"kind": "", "more": ""}] * 2


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (
            {"question": "tekst"},
            "no column 'tekst', which `columns` names for question; it has 'id', 'text', 'i",
        ),
        (
            {"question": "text"},
            "lacks the columns question_id, image_id, answer .* name others with `columns`",
        ),
        ({"question": "images.0.x"}, "lacks the columns question_id"),
        (
            {"question_id": "id", "question": "text", "answer": "id", "image_id": "text"},
            "the columns images are written by",
        ),
        (
            {"images": "text", "question_id": "id", "question": "id", "answer": "id", "image_id": "id"},
            "columns images are",
        ),
        ({"x\0": "id", "question_id": "id", "question": "id", "answer": "id", "image_id": "images.0"}, "holds a NUL"),
    ],
)
def test_columns_that_cannot_be_used(tmp_path: Path, columns: dict[str, str], reason: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"id": "q", "text": "Why?", "images": ["a.png"]}]))
    with pytest.raises(TableError, match=reason):
        read_table(tmp_path / "a.json", RESERVED_COLUMNS, columns=columns)


def test_a_reserved_column_may_get_another_name(tmp_path: Path) -> None:
    row = {**ROWS[0], "images": ["a.png", "b.png"]}
    (sample,) = samples([row], RESERVED_COLUMNS, columns={"all_images": "images"})
    assert sample.extra == {"kind": "NA", "all_images": '["a.png","b.png"]'}
    (sample,) = samples([row], RESERVED_COLUMNS, columns={"image_id": "images.1"})
    assert (sample.image_id, dict(sample.extra)) == ("b.png", {"kind": "NA"})


@pytest.mark.parametrize(
    ("change", "stage", "reason"),
    [
        (
            {"question": ["a", "b"]},
            "table",
            "row 1: question is a list, not a text; choose a part",
        ),
        ({"question_id": {"a": 1}}, "table", "row 1: question_id is an object, not a text"),
        ({"answer": b"\x89PNG"}, "table", "row 1: answer is bytes, not a text"),
        (
            {"answer": date(2026, 2, 1)},
            "table",
            "row 1: answer is a date, as Excel makes of 1/2: 2026-02-01",
        ),
        ({"image_id": ["a.png", "b.png"]}, "image", "row 1: its image is a list of 2; choose one with `columns`"),
        ({"image_id": {"x": 1}}, "image", "row 1: its image is an object without bytes, path and url"),
        ({"image_id": None}, "table", "row 1: blank image_id"),
        ({"image_id": []}, "table", "row 1: blank image_id"),
    ],
)
def test_values_of_another_kind_cost_their_row(change: dict[str, object], stage: str, reason: str) -> None:
    read = read_table([{**ROWS[0], **change}, ROWS[1]])
    assert [sample.question_id for sample in read.samples] == ["q/2"]
    (found,) = read.failures
    assert found.stage == stage and found.reason.startswith(reason)


def test_a_row_without_a_column_is_named(tmp_path: Path) -> None:
    rows = [ROWS[0], {name: text for name, text in ROWS[1].items() if name != "answer"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (failure,) = read_table(tmp_path / "a.jsonl").failures
    assert (failure.question_id, failure.reason) == ("q/2", "line 2 has no 'answer'; write it in every row")


@pytest.mark.parametrize("name", WRITERS)
def test_labels_are_read_from_every_form(tmp_path: Path, name: str) -> None:
    rows = [
        {"question_id": "007", "wrong": "1"},
        {"question_id": "NA", "wrong": "0"},
        {"question_id": "x", "wrong": ""},
    ]
    WRITERS[name](rows, tmp_path / name)
    assert dict(read_labels(tmp_path / name, "wrong")) == {"007": 1, "NA": 0, "x": None}
    reviewed = read_reviewed_labels(tmp_path / name, "wrong", ["x", "007"])
    assert [row.label for row in reviewed.rows] == [None, 1] and "1 of 3 ids" in reviewed.note


def test_labels_of_json_may_be_true_false_and_null(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    values = (True, False, None, 1, 0.0)
    path.write_text("\n".join(json.dumps({"question_id": k, "label": value}) for k, value in enumerate(values)))
    assert list(read_labels(path).values()) == [1, 0, None, 1, 0]
    path.write_text('{"question_id": "a", "label": 1}\n{"question_id": "b"}\n')
    with pytest.raises(LabelError, match="line 2 has no 'label'; write it in every row, null where unknown"):
        read_labels(path)
    with pytest.raises(LabelError, match=r"has no column 'wrong'; its columns are 'question_id', 'label'$"):
        read_labels(path, "wrong")
