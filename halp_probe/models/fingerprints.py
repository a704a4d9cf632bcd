"""Tell one folder's files from another's by their names and whole contents."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

CHECKPOINT_FILES = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.model", "*.txt")
CODE_FILES = ("*.py",)  # part of a model that may run them


def folder_fingerprint(folder: Path, patterns: Iterable[str] = CHECKPOINT_FILES) -> str:
    """16 hexadecimal digits of the files that match, in the folder itself."""
    digest = hashlib.sha256()
    for path in sorted({file for pattern in patterns for file in folder.glob(pattern)}):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()[:16]


def local_revision(folder: Path, *, with_code: bool = False) -> str:
    """What stands for the hub's commit of a checkpoint in a local folder."""
    return f"local-{folder_fingerprint(folder, (*CHECKPOINT_FILES, *(CODE_FILES if with_code else ())))}"
