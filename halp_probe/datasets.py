"""Read a VQA table into samples: a CSV or rows in memory. Mistakes are reported by row, never repaired by guessing."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from halp_probe.csv_files import CsvRow, columns_text, header_fault, read_rows
from halp_probe.errors import InputError
from halp_probe.plain_text import is_whole, shorten
from halp_probe.records import Failure, Sample

if TYPE_CHECKING:
    import pandas as pd

Rows: TypeAlias = Sequence[Mapping[str, object]]  # a table in memory, as a list of dicts

_ALIASES = {"image_id": "image_name", "answer": "gt_answer"}
_CORE = ("question_id", "image_id", "question", "answer")
_BROKEN = "a NUL character or half a surrogate pair"


class TableError(InputError):
    """A table that cannot be used as a whole; the message names the file, the place and the remedy."""


@dataclass(frozen=True)
class Table:
    """The samples in table order, and the rows that cannot be samples."""

    samples: tuple[Sample, ...]
    failures: tuple[Failure, ...]


def read_table(
    table: str | os.PathLike[str] | pd.DataFrame | Rows, reserved: Collection[str] = (), *, answers: bool = True
) -> Table:
    """Read a table with `question_id, image_id, question, answer`: a CSV, or rows in memory.

    Without `answers` the last column may be missing, and is blank then.

    `image_name` stands for `image_id` and `gt_answer` for `answer` (the ground truth). All cells of a CSV stay text; of
    rows in memory, None and NaN are blank and other values become their `str`. A blank answer is allowed (its label
    will be unknown). Rows with a blank question or id, with an id that no file name can be, or with too many or too few
    cells, become failures. Raises TableError for a missing or empty file, missing or ambiguous columns, further columns
    with a `reserved` name, duplicate question ids, and what `read_rows` raises.
    """
    required = _CORE if answers else _CORE[:-1]
    if isinstance(table, str | os.PathLike):
        name, rows = str(table), _rows(Path(table), reserved, required)
    else:
        name, rows = "the table", _rows_in_memory(table, reserved, required)
    samples: list[Sample] = []
    failures: list[Failure] = []
    line_of: dict[str, int] = {}
    repeated: dict[str, list[int]] = {}
    for line, cells in rows:
        question_id = cells.question_id if isinstance(cells, Failure) else cells["question_id"]
        if question_id in line_of:
            repeated.setdefault(question_id, [line_of[question_id]]).append(line)
        elif question_id.strip():
            line_of[question_id] = line
        if isinstance(cells, Failure):
            failures.append(cells)
            continue
        extra = {name: value for name, value in cells.items() if name not in _CORE}
        samples.append(
            Sample(
                question_id=question_id,
                image_id=cells["image_id"],
                question=cells["question"],
                answer=cells.get("answer", ""),
                extra=extra,
            )
        )
    if repeated:
        first, lines = next(iter(repeated.items()))
        raise TableError(
            f"{name}: {len(repeated)} question ids occur more than once (first: {shorten(first, 100)!r} in lines "
            f"{', '.join(map(str, lines))}); answers and labels are matched by id, so make them unique"
        )
    if not samples and not failures:
        raise TableError(f"{name} has a header but no rows")
    return Table(tuple(samples), tuple(failures))


def _rows_in_memory(
    table: pd.DataFrame | Rows, reserved: Collection[str], required: Sequence[str]
) -> Iterator[tuple[int, dict[str, str] | Failure]]:
    """Yield each row's number, counted from 1, and its cells or the reason why it cannot be used."""
    frame = None if isinstance(table, Sequence) else table
    rows: Iterable[Mapping[str, object]] = table if frame is None else frame.to_dict("records")  # type: ignore[assignment]
    names = list(dict.fromkeys(str(name) for row in rows for name in row)) if frame is None else list(frame.columns)
    header = _header([str(name) for name in names], "the table", reserved, required)
    for number, row in enumerate(rows, 1):
        yield number, _row(header, CsvRow(number, [_text(row.get(name)) for name in names]))


def _text(value: object) -> str:
    return (
        "" if value is None or (isinstance(value, float) and math.isnan(value)) or str(value) == "<NA>" else str(value)
    )


def _rows(
    path: Path, reserved: Collection[str], required: Sequence[str]
) -> Iterator[tuple[int, dict[str, str] | Failure]]:
    """Yield each row's line number, and its cells or the reason why it cannot be used."""
    rows = read_rows(path, TableError)
    first = next(rows, CsvRow(0, []))
    header = _header(first.cells, path, reserved, required)
    for row in rows:
        yield row.line, _row(header, row)


def _header(cells: list[str], path: Path | str, reserved: Collection[str], required: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if not any(names):
        raise TableError(f"{path} is empty; it needs a header with {', '.join(required)}")
    for name, alias in _ALIASES.items():
        if name in names and alias in names:
            raise TableError(f"{path} has both {name!r} and {alias!r}: which one is meant? rename or remove one")
        names = [name if column == alias else column for column in names]
    fault = header_fault(cells)
    if missing := [name for name in required if name not in names]:
        raise TableError(
            f"{path}: {fault}"
            if fault
            else f"{path} lacks the columns {', '.join(missing)} (image_name and gt_answer are accepted too); it has "
            f"{columns_text(names)}; separate cells by commas"
        )
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled or "" in names:
        problem = (
            f"every column needs a name of its own (repeated or blank: {columns_text(doubled) if doubled else 'blank'})"
        )
        raise TableError(f"{path}: {fault or problem}")
    if unwritable := [name for name in names if not is_whole(name)]:
        raise TableError(f"{path}: the column name {unwritable[0]!r} holds {_BROKEN}; rename the column")
    taken = sorted(set(names) & set(reserved) - set(_CORE))
    if taken:
        raise TableError(f"{path}: the columns {', '.join(taken)} are written by the extraction itself; rename them")
    return names


def _row(header: list[str], row: CsvRow) -> dict[str, str] | Failure:
    cells = dict(zip(header, row.cells, strict=False))
    reason = row.mismatch(header) or _problem(cells, row.line)
    if reason:
        return Failure(question_id=cells.get("question_id", ""), stage="table", reason=reason)
    return cells


def _problem(cells: Mapping[str, str], line: int) -> str:
    """Return why a row's cells cannot be a sample; "" if they can."""
    for name in ("question_id", "question", "image_id"):
        if not cells[name].strip():
            return f"line {line}: blank {name}"
    for name in ("question_id", "image_id"):
        if "\n" in cells[name]:
            return f"line {line}: a line break in an id; look for a quote that is not closed"
        if not is_whole(cells[name]):
            return f"line {line}: the {name} holds {_BROKEN}; give it another one"
    return ""
