"""Check whether a checkpoint's own Python code may run: only if the user named its repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from halp_probe.json_files import read_json
from halp_probe.models.errors import ModelError

_AUTO_CLASSES = ("AutoModelForImageTextToText", "AutoModelForCausalLM", "AutoModel")


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


def own_auto_class(config: Any) -> str | None:
    """Return the auto class under which a config names its repository's own model class; None if it names none."""
    named = getattr(config, "auto_map", None) or {}
    return next((name for name in _AUTO_CLASSES if name in named), None)


def check_own_class(config: Any, name: str, source: str, commit: str | None, cache_dir: str | None) -> None:
    """Raise ModelError for a trusted repository's model class that answers through `chat` alone.

    So do those of InternVL and MiniCPM-V: what a prompt is, and where its images enter, is inside that method.
    """
    auto_class = own_auto_class(config)
    if auto_class is None:
        return
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    own = get_class_from_dynamic_module(config.auto_map[auto_class], source, revision=commit, cache_dir=cache_dir)
    if hasattr(own, "chat") and not hasattr(own, "get_image_features"):
        raise ModelError(
            f"{name} cannot be served: its own class {own.__name__} answers through chat() and has no "
            "get_image_features; take the same model's checkpoint for transformers' own class (its name often ends in "
            "-hf)"
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
