"""labels.csv, labels made elsewhere, and the command: ids stay exact, and what does not fit is named."""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halp_probe.commands import label as command
from halp_probe.labels.labelling import summary
from halp_probe.labels.rules import judge
from halp_probe.labels.table import (
    LabelError,
    LabelRow,
    add_texts,
    read_labels,
    read_reviewed_labels,
    row,
    write_labels,
)
from halp_probe.tasks.labelling import label

SHARD_IDS = ("007", "a/b", "q 3", "ü—4", "5")


@dataclass(frozen=True)
class FakeShards:
    """The part of the shard reader's contract that labelling uses."""

    question_ids: tuple[str, ...]
    texts: dict[str, list[str]]
    notes: tuple[str, ...] = ("the run is not finished",)
    attributes: dict[str, int] = field(default_factory=dict)

    def text(self, name: str) -> list[str]:
        return self.texts[name]

    def has(self, name: str) -> bool:
        return name in self.texts


def fake_shards(ids: list[str], questions: list[str], answers: list[str], truths: list[str]) -> FakeShards:
    return FakeShards(tuple(ids), {"question": questions, "answer": answers, "ground_truth_answer": truths})


SHARDS = fake_shards(
    list(SHARD_IDS),
    ["Is there a dog?", "How many?", "What colour?", "Is there a cat?", "Which?"],
    ["Yes", "There are 2.", "It is red.", "I'm sorry, I can't help with that.", "C"],
    ["yes", "3", "red", "no", ""],
)


@pytest.fixture
def shards(monkeypatch: pytest.MonkeyPatch) -> FakeShards:
    monkeypatch.setattr("halp_probe.tasks.labelling.open_shards", lambda path: SHARDS)
    return SHARDS


def table(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "reviewed.csv"
    path.write_bytes(text.encode(encoding))
    return path


IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


@given(st.dictionaries(IDS, st.sampled_from([0, 1, None]), max_size=20))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, labels: dict[str, int | None]) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    write_labels(
        path,
        [
            LabelRow(question_id=q, label=label, rule="exact", answer='a "b",\nc', truth="t", reason="r")
            for q, label in labels.items()
        ],
    )
    assert read_labels(path) == labels


def test_the_table_has_the_documented_columns(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "labels.csv"
    rows = [row("007", judge("Yes", "no")), row("ü", judge("", "no"))]
    write_labels(path, add_texts(rows, ["Is it?", "Why?"], ["Yes", ""], ["no", "NO"]))
    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            [
                *("question_id", "label", "rule", "answer", "truth", "reason"),
                "question",
                "model_answer",
                "ground_truth",
            ],
            ["007", "1", "yes_no", "yes", "no", "says something else", "Is it?", "Yes", "no"],
            ["ü", "", "yes_no", "", "no", "empty answer", "Why?", "", "NO"],
        ]


@pytest.mark.parametrize("column", ["is_correct", "Right", "accuracy"])
def test_a_column_that_counts_the_right_answers_is_refused(tmp_path: Path, column: str) -> None:
    path = table(tmp_path, f"question_id,{column},incorrect\n007,1,1\n")
    with pytest.raises(LabelError, match="here 1 means hallucinated"):
        read_reviewed_labels(path, column, ["007"])
    assert read_reviewed_labels(path, "incorrect", ["007"]).rows[0].label == 1


def test_a_folder_is_no_labels_file(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"is a folder; name the file to write"):
        write_labels(tmp_path, [])


def test_a_failed_write_leaves_the_old_table_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    write_labels(path, [LabelRow(question_id="q", label=1, rule="exact", answer="", truth="", reason="")])

    def rows():
        yield LabelRow(question_id="q", label=0, rule="exact", answer="", truth="", reason="")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_labels(path, rows())
    assert read_labels(path) == {"q": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["labels.csv"]


@pytest.mark.parametrize(
    ("value", "label"),
    [("0", 0), ("1", 1), ("0.0", 0), ("1.0", 1), ("TRUE", 1), ("False", 0), ("", None), ("NaN", None), (" 1 ", 1)],
)
def test_accepted_values(tmp_path: Path, value: str, label: int | None) -> None:
    assert read_labels(table(tmp_path, f"question_id,label\nq,{value}\n")) == {"q": label}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_ids_stay_exactly_as_they_are(tmp_path: Path, encoding: str) -> None:
    path = table(tmp_path, "note,question_id,wrong\n,007,1\n,a/b,0\n,q 3,\n,ü—4,1\n,1e3,0\n", encoding)
    assert read_labels(path, "wrong") == {"007": 1, "a/b": 0, "q 3": None, "ü—4": 1, "1e3": 0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question_id,label\nq7,2\n", r"reviewed\.csv: question_id 'q7' has '2' in column 'label'; write 0 or false"),
        ("question_id,label\nq7,right\n", r"'q7' has 'right'"),
        ("question_id,label\nq7,0\nq8,1\nq7,0\n", r"'q7' has two rows; keep one"),
        ("question_id,verdict\nq7,0\n", r"no column 'label'; its columns are 'question_id', 'verdict'"),
        ("id,label\nq7,0\n", r"no column 'question_id'"),
        ("question_id;label\nq7;0\n", r"no column 'question_id'; its columns are 'question_id;label'"),
        ("question_id,label,label\nq7,0,1\n", r"more than one column 'label'"),
        ("question_id,label\nq7\n", r"line 2 has 1 cells, the header 2: write the row in full"),
        ("question_id,label\n,1\n", r"line 2: the question_id is empty"),
        ("", r"its columns are none"),
        ("question_id,label,rule\nq7,,0,reviewed\n", r"line 2 has 4 cells, the header 3: quote texts that hold commas"),
        ('question_id,label,rule\nq7,0,"a\nq8,1,b\nq9,1,c\n', r"line 4; look for a quote that is not closed"),
        ('question_id,label,rule\nq7,0,"a\nq8,1,"b\nq9,1,c\n', r"line 3; look for a quote that is not closed"),
        ("sep=,\nquestion_id,label\nq7,1\n", r"line 1 is Excel's 'sep='"),
        (f"question_id,label\nq7,{'A' * 10**6}\n", r"'AAAAA.* … \(1,000,000 characters\) … A{33}' in column 'label'"),
    ],
)
def test_a_bad_table_is_an_error_that_names_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        read_labels(table(tmp_path, text))


def test_another_encoding_and_a_missing_file_are_errors_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"not UTF-8 .* save it as UTF-8"):
        read_labels(table(tmp_path, "question_id,label\nü,1\n", "latin-1"))
    with pytest.raises(LabelError, match=r"none\.csv does not exist; check the path"):
        read_labels(tmp_path / "none.csv")


def test_reviewed_labels_are_matched_by_id_not_by_order(tmp_path: Path) -> None:
    path = table(tmp_path, "question_id,wrong\nother,1\n5,0\na/b,\n007,1\n")
    reviewed = read_reviewed_labels(path, "wrong", SHARD_IDS)
    assert [(r.question_id, r.label) for r in reviewed.rows] == list(
        zip(SHARD_IDS, [1, None, None, None, 0], strict=True)
    )
    assert [r.reason for r in reviewed.rows[1:3]] == ["no label in reviewed.csv", "not in reviewed.csv"]
    assert {r.rule for r in reviewed.rows} == {"reviewed"}
    assert '2 of 5 questions are not in reviewed.csv (first: "q 3")' in reviewed.note
    assert '1 of 4 ids in reviewed.csv are not in the shards (first: "other")' in reviewed.note


def test_a_table_that_fits_has_no_note(tmp_path: Path) -> None:
    assert read_reviewed_labels(table(tmp_path, "question_id,w\n1,0\n2,1\n"), "w", ["2", "1"]).note == ""


@pytest.mark.parametrize("text", ["question_id,w\n7,0\n", "question_id,w\n007 ,0\n"])
def test_a_table_for_other_ids_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(LabelError, match="labels for other ids"):
        read_reviewed_labels(table(tmp_path, text), "w", SHARD_IDS)


def test_an_empty_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="no rows"):
        read_reviewed_labels(table(tmp_path, "question_id,w\n"), "w", SHARD_IDS)


def test_label_writes_and_counts(shards: FakeShards, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "labels.csv"
    command.label_into(out, "shards")
    counts = label("shards").counts
    assert (counts.right, counts.wrong, counts.unknown) == (2, 1, 2)
    assert counts.rules == {"contains": 2, "number": 1, "yes_no": 2}
    assert read_labels(out) == dict(zip(SHARD_IDS, [0, 1, 0, None, None], strict=True))
    printed = capsys.readouterr().out
    assert "5 answers: 2 right, 1 hallucinated, 2 unknown" in printed
    assert "ü—4: refusal" in printed
    assert "5: no ground truth" in printed
    assert printed.endswith("note: the run is not finished\n")
    with pytest.raises(LabelError, match="`rule` does not go with `table`"):
        label("shards", rule="exact", table=out, column="label")


def test_label_by_a_table_needs_no_answers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = fake_shards(["007", "b"], ["Is it?"] * 2, ["", " "], ["yes"] * 2)
    monkeypatch.setattr("halp_probe.tasks.labelling.open_shards", lambda path: silent)
    with pytest.raises(
        LabelError, match=r"none of the 2 questions has an answer .*`answers=False`.*`table` FILE `column`"
    ):
        command.label_into(tmp_path / "labels.csv", "shards")
    assert not (tmp_path / "labels.csv").exists()
    path = table(tmp_path, "question_id,wrong\n007,1\n")
    command.label_into(tmp_path / "labels.csv", "shards", table=str(path), column="wrong")
    assert read_labels(tmp_path / "labels.csv") == {"007": 1, "b": None}
    assert 'not in reviewed.csv (first: "b")' in capsys.readouterr().out


@pytest.mark.parametrize("half", [{"table": "t.csv"}, {"column": "wrong"}])
def test_table_and_column_belong_together(shards: FakeShards, tmp_path: Path, half: dict[str, str]) -> None:
    with pytest.raises(LabelError, match="`table` FILE and `column` NAME belong together"):
        label("shards", **half)


def test_the_command_line(shards: FakeShards, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    out = tmp_path / "labels.csv"
    assert command.run(parser.parse_args(["--shards", "s", "--out", str(out), "--rule", "exact"])) == 0
    assert read_labels(out)["q 3"] == 1, "not equal, though contained"
    with pytest.raises(SystemExit):
        parser.parse_args(["--shards", "s", "--out", "o", "--rule", "fuzzy"])


def test_many_unknowns_are_shortened() -> None:
    rows = [
        LabelRow(question_id=f"q{k}", label=None, rule="exact", answer="", truth="", reason="refusal") for k in range(8)
    ]
    lines = summary(rows, "labels.csv").splitlines()
    assert "unknown because: refusal (8)" in lines
    assert lines[-1].strip() == "… and 3 more"
