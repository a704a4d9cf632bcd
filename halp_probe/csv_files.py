"""Read CSV files strictly: the one reader of all tables, which streams, and guesses nothing."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from halp_probe.errors import InputError
from halp_probe.plain_text import shorten

_FIELD_LIMIT = 10_000_000  # characters in one cell
_MARKS = {  # the longest first: UTF-32's begins as UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_NUL, _NUL_STAND_IN = "\0", "\udc00"  # half a surrogate pair, which no decoded text holds; csv of Python 3.10 takes it
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@dataclass(frozen=True)
class CsvRow:
    """A row with the number of its last line, counted from 1. `cells` are text, as they stand in the file."""

    line: int
    cells: list[str]

    def mismatch(self, header: Sequence[str]) -> str:
        """Return what is wrong with the number of cells, with the remedy; "" if nothing is."""
        if len(self.cells) == len(header):
            return ""
        remedy = "quote texts that hold commas" if len(self.cells) > len(header) else "write the row in full"
        return f"line {self.line} has {len(self.cells)} cells, the header {len(header)}: {remedy}"


def read_rows(path: Path, error: type[InputError] = InputError) -> Iterator[CsvRow]:
    """Yield the rows of a comma-separated file, the header first, without the blank lines.

    The file is UTF-8, or UTF-16 or UTF-32 with a byte order mark. Raises `error`, naming the file, the line and the
    remedy, if it cannot be read, is of another encoding or kind, or a quote is not closed.
    """
    csv.field_size_limit(_FIELD_LIMIT)
    try:
        with path.open("rb") as file:
            encoding = _encoding(file, path, error)
        with path.open(encoding=encoding, newline="") as text:
            reader = csv.reader((line.replace(_NUL, _NUL_STAND_IN) for line in text), strict=True)
            for cells in reader:
                if cells:
                    yield CsvRow(reader.line_num, [cell.replace(_NUL_STAND_IN, _NUL) for cell in cells])
    except UnicodeError as found:
        raise error(
            f"{path} is not {_name(encoding)} ({_place(path, encoding, found)}); save it as UTF-8 CSV"
        ) from found
    except csv.Error as found:
        raise error(
            f"{path} is not a CSV table: {found} at line {reader.line_num}; look for a quote that is not closed"
        ) from found
    except FileNotFoundError:
        raise error(f"{path} does not exist; check the path") from None
    except OSError as found:
        raise error(f"{path} cannot be read: {found.strerror}; check the path") from found


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


def _encoding(file: BinaryIO, path: Path, error: type[InputError]) -> str:
    beginning = file.read(4)
    for mark, encoding in _MARKS.items():
        if beginning.startswith(mark):
            return encoding
    if beginning == b"PK\x03\x04":
        raise error(f"{path} is an Excel workbook or another zip file; save the sheet as UTF-8 CSV")
    if b"\0" in beginning:
        raise error(
            f"{path} begins with a NUL character, as UTF-16 without a byte order mark does; save it as UTF-8 CSV"
        )
    return "utf-8"


def _name(encoding: str) -> str:
    return encoding.upper().removesuffix("-SIG")


def _place(path: Path, encoding: str, found: UnicodeError) -> str:
    """Return where a file is not UTF-8; a decoder of blocks does not know it."""
    if not encoding.startswith("utf-8"):
        return str(found)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f"byte 0x{error.object[error.start]:02x} in line {number}"
    return str(found)  # the file has changed since
