"""Write small files whole or not at all: under a temporary name, synced, then renamed."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def atomic_text(path: Path) -> Iterator[TextIO]:
    """A UTF-8 text file that appears under `path` only when the block ends without an error."""
    text = io.StringIO(newline="")
    yield text
    write_bytes(path, text.getvalue().encode())


def write_bytes(path: Path, data: bytes) -> None:
    """A file with these bytes."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
