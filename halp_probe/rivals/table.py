"""The table of rivals: `question_id` and a column for each measure, higher = riskier, blank where there is none."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from halp_probe.csv_files import read_rows
from halp_probe.errors import InputError
from halp_probe.files import atomic_text


def write_rivals(path: Path, question_ids: Sequence[str], columns: Mapping[str, np.ndarray]) -> None:
    """Write the table, whole or not at all; `columns` are [M] float64, nan is written as a blank."""
    with atomic_text(path) as file:
        writer = csv.writer(file)
        writer.writerow(["question_id", *columns])
        for row, question_id in enumerate(question_ids):
            values = [float(column[row]) for column in columns.values()]
            writer.writerow([question_id, *("" if math.isnan(value) else repr(value) for value in values)])


def read_rivals(path: Path, question_ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the columns, [M] float64 in the order of `question_ids`; nan for a blank, and for a question without a row.

    Raises InputError for a table without `question_id`, with an id twice, or with a cell that is not a number.
    """
    header, *rows = list(read_rows(path))
    names = header.cells[1:]
    if header.cells[:1] != ["question_id"] or len(set(names)) < len(names):
        raise InputError(f"{path} is not a table of rivals: its header must be question_id and one name a column")
    place = {question_id: row for row, question_id in enumerate(question_ids)}
    columns = {name: np.full(len(question_ids), np.nan) for name in names}
    seen: set[str] = set()
    for row in rows:
        if wrong := row.mismatch(header.cells):
            raise InputError(f"{path}, {wrong}")
        question_id, *cells = row.cells
        if question_id in seen:
            raise InputError(f"{path}, line {row.line}: question {question_id!r} has two rows; leave one out")
        seen.add(question_id)
        if question_id in place:
            for name, cell in zip(names, cells, strict=True):
                columns[name][place[question_id]] = _number(cell, f"{path}, line {row.line}, column {name}")
    return columns


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell or "nan")
    except ValueError:
        raise InputError(f"{where}: {cell!r} is not a number; leave it blank where there is none") from None
    if math.isinf(value):
        raise InputError(f"{where}: {cell!r} is not finite; leave it blank where there is none")
    return value
