"""Write files and folders whole or not at all: under a temporary name, synced, then renamed."""

from __future__ import annotations

import io
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from safetensors import SafetensorError

from halp_probe.errors import InputError


@contextmanager
def atomic_text(path: Path) -> Iterator[TextIO]:
    """Yield a UTF-8 text file that appears under `path` only if the block ends without an error; see `write_bytes`."""
    text = io.StringIO(newline="")
    yield text
    write_bytes(path, encode_text(text.getvalue()))


def encode_text(text: str) -> bytes:
    r"""Encode the content of a text file in UTF-8, which always succeeds.

    A NUL character and half a surrogate pair, which a text file cannot hold, become `\u0000` and `\ud800`: in JSON
    these are escapes, and are read back as what they stand for.
    """
    return text.replace("\0", "\\u0000").encode(errors="backslashreplace")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file with these bytes, and its folder if it is missing; several runs may write it at once.

    Raises InputError if it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; free space, or choose another place") from error
    finally:
        with suppress(OSError):  # not a directory; already reported above
            partial.unlink()


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """Yield an empty folder, renamed to `output` if the block ends without an error, and removed otherwise.

    Raises InputError for an `output` that is not empty, and if it cannot be written.
    """
    if not output.name:
        raise InputError(f"`output_dir` {output}: name a new folder, which is written whole or not at all")
    partial = output.with_name(f".{output.name}.partial")
    try:
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise InputError(f"`output_dir` {output} exists and is not empty; choose another one")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        for file in filter(Path.is_file, partial.rglob("*")):
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        partial.replace(output)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{output} cannot be written: {error}; free space, or choose another place") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
