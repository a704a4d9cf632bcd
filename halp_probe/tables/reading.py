"""Read a table of any common form, record by record."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from halp_probe.csv_files import CsvRow, columns_text, read_rows
from halp_probe.errors import InputError
from halp_probe.extras import missing_extra
from halp_probe.tables.forms import Form, find_form
from halp_probe.tables.json_tables import json_records
from halp_probe.tables.parts import files_of
from halp_probe.tables.records import Record, text_of

_ARROW = (Form.PARQUET, Form.ARROW_FILE, Form.ARROW_STREAM)


@dataclass(frozen=True)
class OpenTable:
    """A table that is being read: its columns, as they stand, and its records, once.

    The columns of JSON are those of its first object; each of its records has its own.
    """

    form: Form
    columns: tuple[str, ...]
    records: Iterator[Record]


def read_records(
    path: str | os.PathLike[str], error: type[InputError] = InputError, columns: Collection[str] | None = None
) -> Iterator[Record]:
    """Yield the records of a table, one at a time, whatever its form and its ending.

    Parameters
    ----------
    path
        A CSV, TSV, JSON, JSON-lines, Parquet, Arrow or .xlsx file, told by its content; `FILE.xlsx#SHEET` and
        `FILE.json#MEMBER` choose a sheet and a list of several. Texts may be packed by gzip. Parquet and Arrow may be
        several files: a folder of `Dataset.save_to_disk`, or a pattern such as `data/test-*.parquet`.
    error
        The error to raise.
    columns
        The columns that are needed: others may be left out of the records, to save time.

    Raises
    ------
    InputError
        As `error`, naming the file, the place and the remedy: for a file that is none of these or broken, two columns
        of one name, a row with too many or too few cells, a package that is not installed.
    """
    table = open_table(path, error, columns)
    if doubled := sorted({name for name in table.columns if table.columns.count(name) > 1}):
        raise error(f"{path}: the columns {columns_text(doubled)} occur twice; give every column a name of its own")
    for record in table.records:
        if record.fault:
            raise error(f"{path}: {record.fault}")
        yield record


def open_table(
    path: str | os.PathLike[str], error: type[InputError] = InputError, columns: Collection[str] | None = None
) -> OpenTable:
    """Open a table as `read_records` does; a row of a wrong length is a record with a fault.

    An empty file has no columns and no records.
    """
    whole, part = split_part(path)
    files = files_of(whole, error)
    file = files[0]
    form = find_form(file, error)
    if len(files) > 1 and form not in _ARROW:
        raise error(f"{path} names {len(files)} files, which only Parquet and Arrow may be; pass one of them")
    if part and form not in (Form.EXCEL, Form.JSON):
        raise error(f"{path}: {file.name} is a {form.value} file and has no parts; leave out what follows the #")
    try:
        if form is Form.JSON:
            return _of_json(file, error, part)
        if form is Form.EXCEL:
            return _of_excel(file, error, part)
        if form in (Form.CSV, Form.TSV):
            return _of_csv(file, error, form)
        return _of_arrow(files, error, columns)
    except ModuleNotFoundError as found:
        if (hint := missing_extra(found)) is None:
            raise
        raise error(f"{file} is a table of the form {form.value}: {hint}; or save it as CSV or JSON lines") from found


def split_part(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """Return the file, and what follows a # that is no part of its name: a sheet of Excel, or a list in JSON."""
    whole, (name, _, part) = Path(path), os.fspath(path).rpartition("#")
    return (Path(name), part) if name and not whole.exists() and Path(name).is_file() else (whole, "")


def _of_arrow(files: Sequence[Path], error: type[InputError], wanted: Collection[str] | None) -> OpenTable:
    from halp_probe.tables.arrow_tables import arrow_columns, arrow_records

    forms = [find_form(file, error) for file in files]
    columns = arrow_columns(files[0], forms[0], error)
    for file, form in zip(files, forms, strict=True):
        if form not in _ARROW or arrow_columns(file, form, error) != columns:
            raise error(f"{file} has other columns than {files[0].name}, or another form; pass files of one table")

    def records() -> Iterator[Record]:
        number = 0
        for file, form in zip(files, forms, strict=True):
            for record in arrow_records(file, form, error, wanted):
                number += 1
                yield replace(record, number=number) if len(files) > 1 else record

    return OpenTable(forms[0], columns, records())


def _of_csv(path: Path, error: type[InputError], form: Form) -> OpenTable:
    separator, separators = ("\t", "tabs") if form is Form.TSV else (",", "commas")
    rows = read_rows(path, error, separator)
    header = next(rows, CsvRow(0, [])).cells
    records = (
        Record(row.line, dict(zip(header, row.cells, strict=False)), fault=row.mismatch(header, separators))
        for row in rows
    )
    return OpenTable(form, tuple(header), records)


def _of_json(path: Path, error: type[InputError], member: str) -> OpenTable:
    records = json_records(path, error, member)
    first = next(records, None)
    return OpenTable(Form.JSON, tuple(first.values) if first else (), chain([first] if first else [], records))


def _of_excel(path: Path, error: type[InputError], sheet: str) -> OpenTable:
    from halp_probe.tables.excel_tables import ExcelRow, excel_rows

    rows = excel_rows(path, error, sheet)
    header = [text_of(cell) for cell in next(rows, ExcelRow(0, [], "")).cells]

    def record(row: ExcelRow) -> Record:
        cells = row.cells + [None] * (len(header) - len(row.cells))
        beyond = f"has {len(cells)} cells, the header {len(header)}: name the columns, or empty the cells"
        fault = row.fault or (beyond if len(cells) > len(header) else "")
        fault = fault and f"row {row.number} {fault}"
        return Record(row.number, dict(zip(header, cells, strict=False)), "row", fault)

    return OpenTable(Form.EXCEL, tuple(header), map(record, rows))
