"""Tables of Excel workbooks (.xlsx), read row by row through openpyxl."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import openpyxl

from halp_probe.errors import InputError
from halp_probe.plain_text import shorten

_BROKEN = (zipfile.BadZipFile, ParseError, KeyError, ValueError, OSError, EOFError)


@dataclass(frozen=True)
class ExcelRow:
    """A row of a sheet, counted from 1; `fault` says which of its cells has no value, after "row 2 …"."""

    number: int
    cells: list[Any]
    fault: str


def excel_rows(path: Path, error: type[InputError], sheet: str = "") -> Iterator[ExcelRow]:
    """Yield the rows of a sheet that are not blank, without blank cells at their ends.

    Without a `sheet` the workbook must have one alone that is visible. Raises `error` for a workbook that cannot be
    read. A formula whose result is not stored, and a formula's error, are faults of their row.
    """
    with _open(path, error) as (workbook, formulas):
        name = _choose(workbook, sheet, path, error)
        pairs = zip(workbook[name].iter_rows(), formulas[name].iter_rows(), strict=True)
        for number, (cells, written) in enumerate(pairs, 1):
            values = [cell.value for cell in cells]
            while values and values[-1] is None and written[len(values) - 1].value is None:
                values.pop()
            if values:
                yield ExcelRow(number, values, _fault(cells, written))


@contextmanager
def _open(path: Path, error: type[InputError]) -> Iterator[tuple[Any, Any]]:
    """Yield the workbook twice: with the values of its cells, and with their formulas."""
    with ExitStack() as stack:
        try:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # of what a workbook has beside its cells
            books = []
            for values in (True, False):
                file = stack.enter_context(path.open("rb"))  # by name, openpyxl would look at the ending
                books.append(openpyxl.load_workbook(file, read_only=True, data_only=values))
                stack.callback(books[-1].close)
            yield books[0], books[1]
        except InputError:
            raise
        except _BROKEN as found:
            why = " ".join(str(found).split())[:300]
            raise error(
                f"{path} is a zip file, and no whole Excel workbook ({why}); save the sheet anew as .xlsx or CSV"
            ) from found


def _choose(workbook: Any, sheet: str, path: Path, error: type[InputError]) -> str:
    names = [each.title for each in workbook.worksheets]
    shown = [each.title for each in workbook.worksheets if each.sheet_state == "visible"]
    if sheet and sheet not in names:
        there = ", ".join(map(repr, names))
        raise error(f"{path} has no sheet {sheet!r}, but {shorten(there, 400)}; choose one of them")
    if not sheet and len(shown) != 1:
        there = ", ".join(map(repr, shown)) or "none"
        choice = f"{path.name}#{shown[0] if shown else 'SHEET'}"
        raise error(f"{path} has several sheets ({shorten(there, 400)}); choose one, as {choice}")
    return sheet or shown[0]


def _fault(cells: Sequence[Any], written: Sequence[Any]) -> str:
    for cell, formula in zip(cells, written, strict=True):
        if formula.value is not None and cell.value is None:
            return f"has a formula without a stored result in {formula.coordinate}; open and save the workbook in Excel"
        if cell.value is not None and cell.data_type == "e":
            return f"has the error {cell.value} in {cell.coordinate}; mend its formula, or write a text"
    return ""
