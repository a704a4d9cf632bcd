"""Check whether a checkpoint's own Python code may run: only if the user named its repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from halp_probe.json_files import read_json
from halp_probe.models.errors import ModelError


def check_code(name: str, source: str, trusted: str | None) -> bool:
    """Return the value for `trust_remote_code`. Raises ModelError if the user named another repository."""
    if trusted is not None and trusted not in (name, source):
        raise ModelError(
            f"`trust_remote_code` {trusted} is not the model, which is {name}; name the repository whose code may run"
        )
    return trusted is not None


def check_own_code(source: str, commit: str | None, cache_dir: str | None) -> None:
    """Raise ModelError if a trusted repository's files would run code of another one, which nobody trusted."""
    folder = Path(source)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(source, revision=commit, cache_dir=cache_dir, allow_patterns=["*.json"]))
    for file in sorted(folder.glob("*.json")):
        content = read_json(file, "fetch the model again", ModelError)
        for reference in _references(content):
            owner, separator, _ = reference.rpartition("--")
            if separator and owner != source:
                raise ModelError(
                    f"{source} was trusted, but its {file.name} runs code of {owner}; copy that code into a folder of "
                    "the model's own and pass the folder as `model` and `trust_remote_code`"
                )


def _references(content: Any, inside: bool = False) -> Iterator[str]:
    """Yield every class that an `auto_map` names, at any depth."""
    if isinstance(content, str) and inside:
        yield content
    elif isinstance(content, list):
        for item in content:
            yield from _references(item, inside)
    elif isinstance(content, dict):
        for key, item in content.items():
            yield from _references(item, inside or key == "auto_map")
