"""The labels table: labels.csv written, and any table of labels read back, matched by question_id."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halp_probe.csv_files import columns_text, header_fault
from halp_probe.errors import InputError
from halp_probe.files import atomic_text
from halp_probe.json_files import write_json
from halp_probe.labels.verdict import Verdict
from halp_probe.plain_text import shorten
from halp_probe.tables.forms import Form
from halp_probe.tables.reading import OpenTable, open_table
from halp_probe.tables.records import text_of

if TYPE_CHECKING:
    import pandas as pd

ID_COLUMN = "question_id"
REVIEWED = "reviewed"  # the rule of a label that was made elsewhere
_VALUES: Mapping[str, int | None] = {
    **dict.fromkeys(("0", "0.0", "false"), 0),
    **dict.fromkeys(("1", "1.0", "true"), 1),
    **dict.fromkeys(("", "nan"), None),
}
_ALLOWED = "0 or false (right), 1 or true (hallucinated), or empty (unknown)"


class LabelError(InputError):
    """Error for a labels table, or shards to label, that cannot be used; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class LabelRow:
    """Row of labels.csv, with its columns in order. `label`: 0 right, 1 hallucinated, None unknown."""

    question_id: str
    label: int | None
    rule: str
    answer: str
    truth: str
    reason: str
    question: str = ""  # and, as they stand in the shards, the texts that were judged
    model_answer: str = ""
    ground_truth: str = ""


COLUMNS = tuple(field.name for field in fields(LabelRow))
_TEXTS = tuple(name for name in COLUMNS if name != "label")


@dataclass(frozen=True, kw_only=True)
class LabelCounts:
    """Numbers of answers that are right (label 0), wrong (1) and unknown; `rules`: how many each rule judged."""

    right: int
    wrong: int
    unknown: int
    rules: dict[str, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels(Mapping[str, int | None]):
    """Labels of a set of answers: a mapping from question id to 0 (right), 1 (hallucinated) or None (unknown).

    Attributes
    ----------
    rows
        A row for each question, with the rule, the evidence and the texts that were judged.
    notes
        What a reader must know, one sentence each.
    judge_record
        Who judged, with which prompt and when, where a judge model did; JSON values.

    Examples
    --------
    >>> import halp_probe
    >>> labels = halp_probe.label("output")
    >>> set(labels.values()) <= {0, 1, None}
    True
    >>> labels.counts.right + labels.counts.wrong + labels.counts.unknown == len(labels)
    True
    >>> list(labels.frame().columns[:3])
    ['question_id', 'label', 'rule']
    """

    rows: tuple[LabelRow, ...]
    notes: tuple[str, ...] = ()
    judge_record: Mapping[str, Any] | None = None

    def __getitem__(self, question_id: str) -> int | None:
        return self._by_id[question_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def counts(self) -> LabelCounts:
        """Numbers of answers by label, and by the rule that judged them."""
        return count(self.rows)

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame with the columns of labels.csv; `label` is of dtype Int64, <NA> where it is unknown."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows], columns=list(COLUMNS)).astype({"label": "Int64"})

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write labels.csv whole or not at all, and beside it the judge's record, if a judge model was asked.

        Raises LabelError for a folder, and InputError where the file cannot be written.
        """
        write_labels(path, self.rows)
        record = Path(path).with_suffix(".judge.json")
        if self.judge_record is not None:
            write_json(record, self.judge_record)
        else:
            record.unlink(missing_ok=True)  # that of an earlier table is not this one's

    @cached_property
    def _by_id(self) -> dict[str, int | None]:
        return {row.question_id: row.label for row in self.rows}


@dataclass(frozen=True)
class ReviewedLabels:
    """Labels made elsewhere, a row for each of the shards' questions.

    `note` names ids that did not match, or is "".
    """

    rows: tuple[LabelRow, ...]
    note: str


def add_texts(
    rows: Iterable[LabelRow], questions: Sequence[str], answers: Sequence[str], truths: Sequence[str]
) -> list[LabelRow]:
    """Return the rows with the judged texts beside the verdicts, for a person who checks them."""
    texts = zip(rows, questions, answers, truths, strict=True)
    return [
        replace(each, question=question, model_answer=answer, ground_truth=truth)
        for each, question, answer, truth in texts
    ]


def row(question_id: str, verdict: Verdict) -> LabelRow:
    """Return the row of a question and its verdict."""
    return LabelRow(
        question_id=question_id,
        label=verdict.label,
        rule=verdict.rule,
        answer=verdict.answer,
        truth=verdict.truth,
        reason=verdict.reason,
    )


def refuse_folder(path: str | os.PathLike[str]) -> None:
    """Raise LabelError if `path` is a folder."""
    path = Path(path)
    if path.is_dir():
        raise LabelError(f"{path} is a folder; name the file to write, such as {path / 'labels.csv'}")


def write_labels(path: str | os.PathLike[str], rows: Iterable[LabelRow]) -> None:
    """Write labels.csv whole or not at all."""
    path = Path(path)
    refuse_folder(path)
    with atomic_text(path) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(astuple(each) for each in rows)  # None becomes an empty cell


def count(rows: Sequence[LabelRow]) -> LabelCounts:
    """Count the rows by label and by rule."""
    labels = Counter(each.label for each in rows)
    rules = dict(sorted(Counter(each.rule for each in rows).items()))
    return LabelCounts(right=labels[0], wrong=labels[1], unknown=labels[None], rules=rules)


def read_labels(path: str | os.PathLike[str], column: str = "label") -> Labels:
    """Read a table of labels, matched by question_id; ids stay the strings they are.

    Parameters
    ----------
    path
        A CSV, TSV, JSON, JSON-lines, Parquet, Arrow or .xlsx file with `question_id` and the column; the further
        columns of labels.csv are read where they are there, their texts are "" otherwise.
    column
        The column of labels: 0 or false (right), 1 or true (hallucinated), or empty (unknown).

    Raises
    ------
    LabelError
        Naming the file and the row, for another value, a missing column, an id given twice or another encoding.

    Examples
    --------
    >>> import halp_probe
    >>> labels = halp_probe.read_labels("labels.csv")
    >>> len(labels) == len(halp_probe.open_shards("output").question_ids)
    True
    """
    path = Path(path)
    rows: dict[str, LabelRow] = {}
    for record in _records(path, column):
        question_id, value = record[ID_COLUMN], record[column]
        if question_id in rows:
            raise LabelError(f"{path}: question_id {question_id!r} has two rows; keep one")
        key = value.strip().lower()
        if key not in _VALUES:
            raise LabelError(
                f"{path}: question_id {question_id!r} has {shorten(value, 100)!r} in column {column!r}; "
                f"write {_ALLOWED}"
            )
        rows[question_id] = LabelRow(label=_VALUES[key], **{name: record.get(name) or "" for name in _TEXTS})
    return Labels(rows=tuple(rows.values()))


def check_meaning(column: str) -> None:
    """Raise LabelError if a column's name says that 1 means right."""
    if re.search("correct|right|accura", column, re.IGNORECASE) and not re.search("incorrect", column, re.IGNORECASE):
        raise LabelError(
            f"column {column!r} seems to say 1 for a right answer, but here 1 means hallucinated and 0 right; pass a "
            "column with that meaning"
        )


def read_reviewed_labels(path: str | os.PathLike[str], column: str, question_ids: Sequence[str]) -> ReviewedLabels:
    """Read the table's labels for the shards' questions, in their order; a question that it lacks is unknown.

    Raises LabelError if the column's name says that 1 means right, if it has a label for none of the questions, and
    for all that `read_labels` raises.
    """
    path = Path(path)
    check_meaning(column)
    labels = read_labels(path, column)
    known = set(question_ids)
    strangers = [question_id for question_id in labels if question_id not in known]
    if not labels:
        raise LabelError(f"{path} has no rows; pass a table with one row for each labelled question")
    if len(strangers) == len(labels):
        raise LabelError(
            f"{path}: labels for other ids: none of its {len(labels)} question ids is in the shards (its first: "
            f'"{strangers[0]}", the shards\' first: "{next(iter(question_ids), "")}"); pass the table of these shards, '
            "ids written exactly as in them"
        )
    rows = tuple(_label_row(question_id, labels, path.name) for question_id in question_ids)
    missing = [question_id for question_id in question_ids if question_id not in labels]
    notes = []
    if missing:
        notes.append(f'{len(missing)} of {len(question_ids)} questions are not in {path.name} (first: "{missing[0]}")')
    if strangers:
        notes.append(
            f'{len(strangers)} of {len(labels)} ids in {path.name} are not in the shards (first: "{strangers[0]}")'
        )
    return ReviewedLabels(rows, "; ".join(notes))


def _label_row(question_id: str, labels: Mapping[str, int | None], name: str) -> LabelRow:
    if question_id not in labels:
        return LabelRow(
            question_id=question_id, label=None, rule=REVIEWED, answer="", truth="", reason=f"not in {name}"
        )
    label = labels[question_id]
    reason = f"no label in {name}" if label is None else f"label of {name}"
    return LabelRow(question_id=question_id, label=label, rule=REVIEWED, answer="", truth="", reason=reason)


def _records(path: Path, column: str) -> Iterator[dict[str, str]]:
    """Yield rows as dicts of the columns that are read; question_id and the column are there."""
    table = open_table(path, LabelError)
    _check_columns(path, table, column)
    for row in table.records:
        if row.fault:
            raise LabelError(f"{path}, {row.fault}")
        if missing := [name for name in (ID_COLUMN, column) if name not in row.values]:
            raise LabelError(f"{path}, {row.place} has no {missing[0]!r}; write it in every row, null where unknown")
        record = {name: text_of(row.values[name]) for name in (*_TEXTS, column) if name in row.values}
        if not record[ID_COLUMN].strip():
            raise LabelError(f"{path}, {row.place}: the question_id is empty; fill it in")
        yield record


def _check_columns(path: Path, table: OpenTable, column: str) -> None:
    for wanted in (ID_COLUMN, column):
        if table.columns.count(wanted) != 1:
            problem = "no column" if wanted not in table.columns else "more than one column"
            commas = header_fault(table.columns) or "cells must be separated by commas"
            fault = f" ({commas})" if table.form is Form.CSV else ""
            raise LabelError(f"{path} has {problem} {wanted!r}; its columns are {columns_text(table.columns)}{fault}")
