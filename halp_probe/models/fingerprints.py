"""Fingerprint a folder's files by their names and whole contents."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

CHECKPOINT_FILES = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.model", "*.txt")
CODE_FILES = ("*.py",)  # part of a model whose own code may run


def folder_fingerprint(folder: Path, patterns: Iterable[str] = CHECKPOINT_FILES) -> str:
    """Return 16 hexadecimal digits for the matching files, in the folder itself."""
    digest = hashlib.sha256()
    for path in sorted({file for pattern in patterns for file in folder.glob(pattern)}):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()[:16]


def local_revision(folder: Path, *, with_code: bool = False) -> str:
    """Return a local checkpoint's substitute for the hub's commit."""
    return f"local-{folder_fingerprint(folder, (*CHECKPOINT_FILES, *(CODE_FILES if with_code else ())))}"
