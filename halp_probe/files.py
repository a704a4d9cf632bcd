"""Write small files whole or not at all: under a temporary name, synced, then renamed."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from halp_probe.errors import InputError


@contextmanager
def atomic_text(path: Path) -> Iterator[TextIO]:
    """A UTF-8 text file that appears under `path` only when the block ends without an error; else as `write_bytes`."""
    text = io.StringIO(newline="")
    yield text
    write_bytes(path, text.getvalue().encode())


def write_bytes(path: Path, data: bytes) -> None:
    """A file with these bytes, in a folder that is made if need be; several runs may write it at once.

    Raises InputError where it cannot be written.
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
        with suppress(OSError):  # a folder that is none has been told
            partial.unlink()
