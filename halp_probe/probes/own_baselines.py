"""Baselines of a user's own: a number a question, from an array or a CSV file.

Legend: M samples in the shards, N rows that are used.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from halp_probe.probes.errors import ProbeError

_ID = "question_id"


OwnBaselines: TypeAlias = "Mapping[str, np.ndarray] | str | os.PathLike[str]"


def own_baselines(given: OwnBaselines, question_ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Return from each name [M] float64: of arrays in the order of `question_ids`, or of a CSV file.

    The file has `question_id` and a column of numbers for each baseline; a blank cell, and a question without a line,
    has nan. Raises ProbeError for an array of another shape, for a file that cannot be read or lacks such columns, for
    a cell that is no number, an id twice, and ids that are not those of the shards.
    """
    if isinstance(given, str | os.PathLike):
        return _read(Path(given), question_ids)
    checked = {}
    for name, column in given.items():
        values = np.asarray(column)
        if values.shape != (len(question_ids),) or values.dtype.kind not in "fiub":
            raise ProbeError(
                f"the baseline {name!r} is an array of shape {values.shape} and dtype {values.dtype}; it takes numbers "
                f"of shape ({len(question_ids)},), one for each question in the shards' order, nan where it has none"
            )
        checked[name] = values.astype(np.float64)
    return checked


def _read(path: Path, question_ids: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = [name for name in reader.fieldnames or () if name != _ID]
            if _ID not in (reader.fieldnames or ()) or not names:
                raise ProbeError(f"{path} needs a column {_ID} and at least one column of numbers")
            lines = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ProbeError(f"{path} cannot be read ({error}); pass a CSV file with {_ID} and numbers") from error
    row_of = {question_id: row for row, question_id in enumerate(question_ids)}
    found = {name: np.full(len(question_ids), np.nan) for name in names}
    seen: set[str] = set()
    for number, line in enumerate(lines, 2):
        if (question_id := line[_ID]) in seen:
            raise ProbeError(f"{path}, line {number}: {question_id!r} is there twice; keep one line a question")
        seen.add(question_id)
        if question_id in row_of:
            for name in names:
                found[name][row_of[question_id]] = _number(line[name], f"{path}, line {number}, {name}")
    if not seen & set(row_of):
        first = next(iter(seen), "no line")
        raise ProbeError(
            f"{path} is about other questions (it begins with {first!r}, the shards with {question_ids[0]!r}); pass "
            "the file that was made for these shards"
        )
    return found


def _number(cell: str | None, where: str) -> float:
    if cell is None or not cell.strip():
        return np.nan
    try:
        return float(cell)
    except ValueError:
        raise ProbeError(f"{where}: {cell!r} is no number; leave the cell blank, or the column out") from None
