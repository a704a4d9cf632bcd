"""Tell the form of a table by its content: its first bytes, its first character, the tabs of its first line."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path

from halp_probe.errors import InputError
from halp_probe.text_files import find_encoding, open_bytes

_BEGINNING = 1 << 16  # bytes
_JSON = re.compile(r'\s*(?:\{\s*["}]|\[\s*[\[\]{"])')
_JSON_ENDINGS = (".json", ".jsonl", ".ndjson")
_TAB_ENDINGS = (".tsv", ".tab")


class Form(Enum):
    """Form of a table's file."""

    CSV = "CSV"
    TSV = "TSV"
    JSON = "JSON"
    PARQUET = "Parquet"
    ARROW_FILE = "Arrow file"
    ARROW_STREAM = "Arrow stream"
    EXCEL = "Excel"


_MAGIC = {
    b"PAR1": Form.PARQUET,
    b"ARROW1": Form.ARROW_FILE,
    b"\xff\xff\xff\xff": Form.ARROW_STREAM,
    b"PK\x03\x04": Form.EXCEL,
}
_REFUSED = {  # beginning -> what it is, and the remedy
    b"\xd0\xcf\x11\xe0": "is an old .xls or a workbook with a password; save the sheet as .xlsx without one",
    b"version https://git-lfs": "is a pointer of Git LFS, not the file; get it with `git lfs pull`",
    b"\x28\xb5\x2f\xfd": "is packed by zstd; unpack it",
    b"\xfd7zXZ": "is packed by xz; unpack it",
    b"BZh": "is packed by bzip2; unpack it",
    b"SQLite format 3": "is an SQLite database; export the table as CSV",
}


def find_form(path: Path, error: type[InputError]) -> Form:
    """Return the form of a file. Raises `error` where it cannot be read, or holds something else than a table."""
    with open_bytes(path, error) as file:
        beginning = file.read(_BEGINNING)
    for magic, form in _MAGIC.items():
        if beginning.startswith(magic):
            return form
    for magic, what in _REFUSED.items():
        if beginning.startswith(magic):
            raise error(f"{path} {what}")
    return _text_form(path, beginning.decode(find_encoding(beginning), errors="replace"), error)


def _text_form(path: Path, beginning: str, error: type[InputError]) -> Form:
    endings = [ending.lower() for ending in path.suffixes]
    if re.match(r"\s*<(?:!doctype|html)", beginning, re.IGNORECASE):
        raise error(f"{path} is a web page, not a table; get the file itself")
    if _JSON.match(beginning) or any(ending in _JSON_ENDINGS for ending in endings[-2:]):
        return Form.JSON
    header = re.split("[\r\n]", beginning.lstrip("\r\n"), maxsplit=1)[0]
    tabs = "\t" in header and "," not in header
    return Form.TSV if tabs or any(ending in _TAB_ENDINGS for ending in endings[-2:]) else Form.CSV
