"""Fingerprint a folder's files by their names and whole contents; large folders are read once.

What was read of a large folder is kept in the user's cache, with each file's size, inode and times. It holds as long as
these are the same: the time of the last change of a file (ctime) cannot be set back.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from halp_probe.errors import InputError
from halp_probe.json_files import read_json, write_json

CHECKPOINT_FILES = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.model", "*.txt")
CODE_FILES = ("*.py",)  # part of a model whose own code may run
_LARGE = 1 << 28  # bytes; what is smaller is read in a moment
_SETTLED = 2.0  # seconds; a file that changed later could change again within one tick of the file system's clock
_MOST = 200  # folders that the cache remembers


def folder_fingerprint(folder: Path, patterns: Iterable[str] = CHECKPOINT_FILES, *, verify: bool = False) -> str:
    """Return 16 hexadecimal digits for the matching files, in the folder itself.

    `verify` reads a large folder again, whatever the cache holds.
    """
    files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
    stamps = [_stamp(file) for file in files]
    if sum(stamp[0] for stamp in stamps) < _LARGE:
        return _digest(files)
    state = [[file.name, *stamp] for file, stamp in zip(files, stamps, strict=True)]
    key = f"{folder.resolve()} {' '.join(file.name for file in files)}"
    known = _read_cache()
    if not verify and known.get(key, {}).get("files") == state:
        return str(known[key]["fingerprint"])
    fingerprint = _digest(files)
    unchanged = stamps == [_stamp(file) for file in files]
    newest = max(stamp[-1] for stamp in stamps)
    if unchanged and time.time_ns() - newest > _SETTLED * 1e9:
        known = _read_cache()
        known.pop(key, None)
        kept = dict([*known.items()][1 - _MOST :]) | {key: {"files": state, "fingerprint": fingerprint}}
        with suppress(InputError):  # the home folder may be read-only: then the files are read again
            write_json(_cache_file(), kept)
    return fingerprint


def local_revision(folder: Path, *, with_code: bool = False, verify: bool = False) -> str:
    """Return a local checkpoint's substitute for the hub's commit."""
    patterns = (*CHECKPOINT_FILES, *(CODE_FILES if with_code else ()))
    return f"local-{folder_fingerprint(folder, patterns, verify=verify)}"


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()[:16]


def _stamp(file: Path) -> tuple[int, int, int, int]:
    """Return size, inode, and times of modification and of change (both in ns), of what a link leads to."""
    status = file.stat()
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _cache_file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "halp_probe" / "fingerprints.json"


def _read_cache() -> dict[str, Any]:
    with suppress(InputError):  # none yet, or not readable: it is written anew
        known = read_json(_cache_file())
        if isinstance(known, dict):
            return known
    return {}
