"""Read a VQA table into samples: a file or rows in memory. Mistakes are reported by row, never repaired by guessing."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from halp_probe.errors import InputError
from halp_probe.plain_text import shorten
from halp_probe.records import Failure, Sample
from halp_probe.tables.forms import Form
from halp_probe.tables.layout import CORE, LayoutRules
from halp_probe.tables.reading import open_table
from halp_probe.tables.records import Record
from halp_probe.tables.rows import Keep, RowReader

if TYPE_CHECKING:
    import pandas as pd

Rows: TypeAlias = Sequence[Mapping[str, object]]  # a table in memory, as a list of dicts

_log = logging.getLogger(__name__)


class TableError(InputError):
    """A table that cannot be used as a whole; the message names the file, the place and the remedy."""


@dataclass(frozen=True)
class Table:
    """The samples in table order, and the rows that cannot be samples."""

    samples: tuple[Sample, ...]
    failures: tuple[Failure, ...]


def read_table(
    table: str | os.PathLike[str] | pd.DataFrame | Rows,
    reserved: Collection[str] = (),
    *,
    answers: bool = True,
    columns: Mapping[str, str] | None = None,
    keep: Keep | None = None,
) -> Table:
    """Read a table with `question_id, image_id, question, answer`: a file of any form, or rows in memory.

    Without `answers` the last column may be missing, and is blank then. `columns` has our names, each with the column
    of theirs that it is read from, or a dotted path into it (`choices.0`).

    `image_name` or `image` stand for `image_id`, and `gt_answer` for `answer` (the ground truth). A text stays what it
    is; None and NaN are blank, a list or an object becomes JSON, and another value its `str`. A blank answer is allowed
    (its label will be unknown). A picture in the table is passed to `keep`, which names it, and goes before the name of
    one, which then is the further column `image_name`; further columns that hold bytes are left out. Rows with a blank
    question or id, with an id that no file name can be, with too many or too few cells, or with a picture that is none
    become failures. Raises TableError for a missing or empty file, missing or ambiguous columns, further columns with
    a `reserved` name, duplicate question ids, and what `open_table` raises.
    """
    required = CORE if answers else CORE[:-1]
    form, names, records = _open(table)
    rules = LayoutRules(
        required=required,
        reserved=reserved,
        name=str(table) if isinstance(table, str | os.PathLike) else "the table",
        error=TableError,
        separated=form in (Form.CSV, Form.TSV),
    )
    layout = rules.layout(names, columns or {})
    reader = RowReader(rules, layout, keep)
    samples: list[Sample] = []
    failures: list[Failure] = []
    line_of: dict[str, int] = {}
    repeated: dict[str, list[int]] = {}
    unit = "row"
    for record in records:
        unit = record.unit
        row = reader.read(record)
        if row.question_id in line_of:
            repeated.setdefault(row.question_id, [line_of[row.question_id]]).append(record.number)
        elif row.question_id.strip():
            line_of[row.question_id] = record.number
        if isinstance(row, Failure):
            failures.append(row)
        else:
            samples.append(row)
    if repeated:
        first, lines = next(iter(repeated.items()))
        raise TableError(
            f"{rules.name}: {len(repeated)} question ids occur more than once (first: {shorten(first, 100)!r} in "
            f"{unit}s {', '.join(map(str, lines))}); answers and labels are matched by id, so make them unique"
        )
    if not samples and not failures:
        raise TableError(f"{rules.name} has a header but no rows")
    if unused := sorted(reader.left_out - {layout.pictures}):
        _log.info("Further columns that hold pictures are left out: %s.", ", ".join(unused))
    names = [name for name in reader.further if name not in reader.left_out]
    return Table(tuple(_filled(samples, names)), tuple(failures))


def _open(
    table: str | os.PathLike[str] | pd.DataFrame | Rows,
) -> tuple[Form | None, Sequence[str], Iterator[Record]]:
    """Return the form of a table, None in memory, its columns and its records."""
    if isinstance(table, str | os.PathLike):
        opened = open_table(table, TableError)
        blanks = any(name != name.strip() for name in opened.columns)
        return opened.form, opened.columns, map(_stripped, opened.records) if blanks else opened.records
    frame = None if isinstance(table, Sequence) else table
    rows: Iterable[Mapping[str, object]] = table if frame is None else frame.to_dict("records")  # type: ignore[assignment]
    keys = list(dict.fromkeys(name for row in rows for name in row)) if frame is None else list(frame.columns)
    records = (Record(number, {str(name): row.get(name) for name in keys}, "row") for number, row in enumerate(rows, 1))
    return None, [str(name) for name in keys], records


def _stripped(record: Record) -> Record:
    return replace(record, values={name.strip(): value for name, value in record.values.items()})


def _filled(samples: Sequence[Sample], names: Collection[str]) -> Iterator[Sample]:
    """Yield the samples, each with all further columns: objects of JSON need not have the same ones."""
    whole = set(names)
    for sample in samples:
        if sample.extra.keys() == whole:
            yield sample
        else:
            yield replace(sample, extra={name: sample.extra.get(name, "") for name in names})
