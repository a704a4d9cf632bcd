"""Open text files whose encoding a byte order mark may name, packed by gzip or not; say where they are wrong."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from halp_probe.errors import InputError

_GZIP = b"\x1f\x8b"
_MARKS = {  # the longest first: UTF-32's begins as UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@contextmanager
def open_bytes(path: Path, error: type[InputError] = InputError) -> Iterator[BinaryIO]:
    """Yield the bytes of a file, unpacked if gzip packed it.

    Raises `error` for what goes wrong with the file, also inside the context.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
            file.seek(0)
            if not packed:
                yield file
            else:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield io.BufferedReader(unpacked)
    except FileNotFoundError:
        raise error(f"{path} does not exist; check the path") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as found:
        raise error(f"{path} is no whole gzip file ({found}); get it again, or unpack it") from found
    except OSError as found:
        raise error(f"{path} cannot be read: {found.strerror}; check the path") from found


@contextmanager
def open_text(path: Path, error: type[InputError] = InputError, *, kind: str = "CSV") -> Iterator[TextIO]:
    """Yield the text of a file, its line ends as they stand: UTF-8, or UTF-16 or UTF-32 with a byte order mark.

    Raises `error`, naming the file, the place and the remedy, if it is not; it calls it a text of that `kind`.
    """
    with open_bytes(path, error) as file:
        encoding = find_encoding(file.read(4))
        file.seek(0)
        try:
            with io.TextIOWrapper(file, encoding=encoding, newline="") as text:
                yield text
        except UnicodeError as found:
            name = encoding.upper().removesuffix("-SIG")
            raise error(f"{path} is not {name} ({_place(path, encoding, found)}); save it as UTF-8 {kind}") from found


def find_encoding(beginning: bytes) -> str:
    """Return the encoding that a byte order mark names; without one, UTF-8."""
    return next((encoding for mark, encoding in _MARKS.items() if beginning.startswith(mark)), "utf-8")


def _place(path: Path, encoding: str, found: UnicodeError) -> str:
    """Return where a file is not UTF-8; a decoder of blocks does not know it."""
    if not encoding.startswith("utf-8"):
        return str(found)
    with open_bytes(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f"byte 0x{error.object[error.start]:02x} in line {number}"
    return str(found)  # the file has changed since
