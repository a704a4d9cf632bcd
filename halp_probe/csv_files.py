"""Read CSV files strictly: the one reader of all tables, which streams, and guesses nothing."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from halp_probe.errors import InputError
from halp_probe.plain_text import shorten
from halp_probe.text_files import find_encoding, open_bytes, open_text

_FIELD_LIMIT = 40_000_000  # characters in one cell, which may be a picture of 30 MB in base64
_NUL, _NUL_STAND_IN = "\0", "\udc00"  # half a surrogate pair, which no decoded text holds; csv of Python 3.10 takes it
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@dataclass(frozen=True)
class CsvRow:
    """A row with the number of its last line, counted from 1. `cells` are text, as they stand in the file."""

    line: int
    cells: list[str]

    def mismatch(self, header: Sequence[str], separators: str = "commas") -> str:
        """Return what is wrong with the number of cells, with the remedy; "" if nothing is."""
        if len(self.cells) == len(header):
            return ""
        remedy = f"quote texts that hold {separators}" if len(self.cells) > len(header) else "write the row in full"
        return f"line {self.line} has {len(self.cells)} cells, the header {len(header)}: {remedy}"


def read_rows(path: Path, error: type[InputError] = InputError, separator: str = ",") -> Iterator[CsvRow]:
    """Yield the rows of a file of separated cells, the header first, without the blank lines.

    The file is UTF-8, or UTF-16 or UTF-32 with a byte order mark, and may be packed by gzip. Raises `error`, naming the
    file, the line and the remedy, if it cannot be read, is of another encoding or kind, or a quote is not closed.
    """
    csv.field_size_limit(_FIELD_LIMIT)
    _refuse_others(path, error)
    with open_text(path, error) as text:
        lines = (line.replace(_NUL, _NUL_STAND_IN) for line in text)
        reader = csv.reader(lines, strict=True, delimiter=separator)
        try:
            for cells in reader:
                if cells:
                    yield CsvRow(reader.line_num, [cell.replace(_NUL_STAND_IN, _NUL) for cell in cells])
        except csv.Error as found:
            kind = "CSV" if separator == "," else "TSV"
            raise error(
                f"{path} is not a {kind} table: {found} at line {reader.line_num}; look for a quote that is not closed"
            ) from found


def header_fault(cells: Sequence[str]) -> str:
    """Return what commonly keeps a header from having its columns, with the remedy; "" if it is none of that."""
    first = cells[0].strip() if cells else ""
    if first.lower().startswith("sep="):
        return f"line 1 is Excel's {shorten(first, 20)!r}; remove that line, and separate cells by commas"
    separator = max(_SEPARATORS, key=first.count)
    if separator in first:
        return f"its cells are separated by {_SEPARATORS[separator]}; save it as comma-separated CSV"
    if not first and any(cells[1:]):
        return "its first column has no name, as pandas writes an index; write it with `index=False`, or remove it"
    return ""


def columns_text(names: Iterable[str]) -> str:
    """Return the names of a table's columns for a message."""
    return shorten(", ".join(repr(name) for name in names), 400) or "none"


def _refuse_others(path: Path, error: type[InputError]) -> None:
    with open_bytes(path, error) as file:
        beginning = file.read(64)
    if beginning.startswith(b"PK\x03\x04"):
        raise error(f"{path} is an Excel workbook or another zip file; save the sheet as UTF-8 CSV")
    halves = {beginning[0::2].strip(b"\0"), beginning[1::2].strip(b"\0")}
    if b"" in halves and len(beginning) > 1 and find_encoding(beginning) == "utf-8":
        raise error(
            f"{path} has a NUL character at every second place, as UTF-16 without a byte order mark does; "
            "save it as UTF-8 CSV"
        )
