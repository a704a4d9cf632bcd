"""The labels table: labels.csv written, and any CSV of labels read back, matched by question_id."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from halp_probe.errors import InputError
from halp_probe.files import atomic_text
from halp_probe.labels.verdict import Verdict

ID_COLUMN = "question_id"
REVIEWED = "reviewed"  # the rule of a label that was made elsewhere
_VALUES: Mapping[str, int | None] = {
    **dict.fromkeys(("0", "0.0", "false"), 0),
    **dict.fromkeys(("1", "1.0", "true"), 1),
    **dict.fromkeys(("", "nan"), None),
}
_ALLOWED = "0 or false (right), 1 or true (hallucinated), or empty (unknown)"


class LabelError(InputError):
    """A labels table, or the shards to label, cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class LabelRow:
    """One row of labels.csv, in the order of its columns. `label`: 0 right, 1 hallucinated, None unknown."""

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


@dataclass(frozen=True)
class Reviewed:
    """Labels made elsewhere, a row for each of the shards' questions; `note` names ids that did not match, or is ""."""

    rows: tuple[LabelRow, ...]
    note: str


def with_texts(
    rows: Iterable[LabelRow], questions: Sequence[str], answers: Sequence[str], truths: Sequence[str]
) -> list[LabelRow]:
    """The rows with the texts that were judged beside the verdicts, for a person who checks them."""
    texts = zip(rows, questions, answers, truths, strict=True)
    return [
        replace(each, question=question, model_answer=answer, ground_truth=truth)
        for each, question, answer, truth in texts
    ]


def row(question_id: str, verdict: Verdict) -> LabelRow:
    return LabelRow(question_id, verdict.label, verdict.rule, verdict.answer, verdict.truth, verdict.reason)


def refuse_folder(path: str | os.PathLike[str]) -> None:
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


def read_labels(path: str | os.PathLike[str], column: str = "label") -> dict[str, int | None]:
    """Read the labels of any CSV that has a column `question_id` and one of labels.

    Parameters
    ----------
    path
        The CSV, in UTF-8, with or without BOM.
    column
        The labels' column. Its cells are 0 or false (right), 1 or true (hallucinated), or empty (unknown).

    Returns
    -------
    dict
        From question id, the string it is in the file, to 0, 1 or None.

    Raises
    ------
    LabelError
        An `InputError` that names the file and the row: for another value, a missing column, an id with two rows, or
        another encoding.

    Examples
    --------
    >>> import halp_probe
    >>> labels = halp_probe.read_labels("labels.csv")
    >>> len(labels), set(labels.values()) <= {0, 1, None}
    (360, True)
    """
    path = Path(path)
    labels: dict[str, int | None] = {}
    for question_id, value in _cells(path, column):
        if question_id in labels:
            raise LabelError(f"{path}: question_id {question_id!r} has two rows; keep one")
        key = value.strip().lower()
        if key not in _VALUES:
            raise LabelError(
                f"{path}: question_id {question_id!r} has {value!r} in column {column!r}; write {_ALLOWED}"
            )
        labels[question_id] = _VALUES[key]
    return labels


def read_rows(path: str | os.PathLike[str]) -> list[LabelRow]:
    """The rows of a labels.csv; columns other than question_id and label may be missing, their texts are then "".

    Raises LabelError as `read_labels` does.
    """
    labels = read_labels(path)
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        records = list(csv.DictReader(file))
    texts = [name for name in COLUMNS if name not in (ID_COLUMN, "label")]
    return [
        LabelRow(label=labels[record[ID_COLUMN]], **{name: record.get(name) or "" for name in (ID_COLUMN, *texts)})
        for record in records
    ]


def checked_meaning(column: str) -> None:
    """Raises LabelError if a column's name says that 1 means right."""
    if re.search("correct|right|accura", column, re.IGNORECASE) and not re.search("incorrect", column, re.IGNORECASE):
        raise LabelError(
            f"column {column!r} seems to say 1 for a right answer, but here 1 means hallucinated and 0 right; pass a "
            "column with that meaning"
        )


def reviewed_labels(path: str | os.PathLike[str], column: str, question_ids: Sequence[str]) -> Reviewed:
    """The table's labels for the shards' questions, in their order; a question that it lacks is unknown.

    Raises LabelError if the column's name says that 1 means right, if it has a label for none of them, and for all that
    `read_labels` raises.
    """
    path = Path(path)
    checked_meaning(column)
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
    rows = tuple(_reviewed_row(question_id, labels, path.name) for question_id in question_ids)
    missing = [question_id for question_id in question_ids if question_id not in labels]
    notes = []
    if missing:
        notes.append(f'{len(missing)} of {len(question_ids)} questions are not in {path.name} (first: "{missing[0]}")')
    if strangers:
        notes.append(
            f'{len(strangers)} of {len(labels)} ids in {path.name} are not in the shards (first: "{strangers[0]}")'
        )
    return Reviewed(rows, "; ".join(notes))


def _reviewed_row(question_id: str, labels: Mapping[str, int | None], name: str) -> LabelRow:
    if question_id not in labels:
        return LabelRow(question_id, None, REVIEWED, "", "", f"not in {name}")
    label = labels[question_id]
    reason = f"no label in {name}" if label is None else f"label of {name}"
    return LabelRow(question_id, label, REVIEWED, "", "", reason)


def _cells(path: Path, column: str) -> Iterator[tuple[str, str]]:
    """(question_id, value) of each row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            _check_columns(path, reader.fieldnames or (), column)
            for record in reader:
                question_id, value = record[ID_COLUMN], record[column]
                if question_id is None or value is None:
                    raise LabelError(f"{path}, line {reader.line_num}: fewer cells than columns; write the row in full")
                if not question_id.strip():
                    raise LabelError(f"{path}, line {reader.line_num}: the question_id is empty; fill it in")
                yield question_id, value
    except UnicodeDecodeError as error:
        raise LabelError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8 CSV") from error
    except csv.Error as error:
        raise LabelError(f"{path} cannot be read as CSV: {error}; save it as comma-separated UTF-8 CSV") from error
    except OSError as error:
        raise LabelError(f"{path} cannot be read: {error.strerror}; check the path") from error


def _check_columns(path: Path, columns: Sequence[str], column: str) -> None:
    for wanted in (ID_COLUMN, column):
        if columns.count(wanted) != 1:
            problem = "no column" if wanted not in columns else "more than one column"
            there = ", ".join(repr(name) for name in columns) or "none"
            raise LabelError(f"{path} has {problem} {wanted!r}; its columns are {there} (cells are parted by commas)")
