"""A lock that admits one run at a time; it ends with its process, even one that is killed."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from halp_probe.errors import InputError


@contextlib.contextmanager
def lock_folder(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Create the folder and hold its lock of this name. Raises InputError when another process holds it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / name).open("w")
    except OSError as error:
        raise InputError(f"`output_dir` {folder} cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise InputError(f"another run is writing to {folder}; wait for it, or choose another folder") from None
        except OSError as error:  # a file system without locks, as some shared ones are
            raise InputError(f"{folder} cannot be locked: {error.strerror}; choose a folder on another disk") from error
        yield
