"""Find a hub model on this machine: one that lies whole in the hub's cache never waits for the network."""

from __future__ import annotations

from pathlib import Path

from halp_probe.json_files import read_json
from halp_probe.models.compat import hub_commit

_PROCESSORS = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def locate(source: str, revision: str | None, *, cache_dir: str | None) -> tuple[str, str | None]:
    """Return the folder or hub name to load `source` from, and the commit there; `revision` itself for a folder.

    A branch of a model in the cache is the commit that it was when it was fetched. Raises OSError if the hub cannot
    tell the commit of a model that is not in the cache.
    """
    if Path(source).is_dir():
        return source, revision
    snapshot = cached_files(source, revision, cache_dir=cache_dir)
    if snapshot is not None and _is_whole(snapshot):
        return str(snapshot), snapshot.name
    return source, hub_commit(source, revision, cache_dir=cache_dir)


def cached_files(name: str, revision: str | None, *, cache_dir: str | None) -> Path | None:
    """Return the folder with what the hub's cache holds of this revision; None if it holds nothing."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, cache_dir=cache_dir, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def _is_whole(snapshot: Path) -> bool:
    """Return whether config, processor and all weights of a model are there."""
    indexes = [snapshot / f"{file}.index.json" for file in _WEIGHTS]
    shards = [set(read_json(index)["weight_map"].values()) for index in indexes if index.is_file()]
    weights = [*shards, *({file} for file in _WEIGHTS)]
    return (
        (snapshot / "config.json").is_file()
        and any((snapshot / file).is_file() for file in _PROCESSORS)
        and any(all((snapshot / file).is_file() for file in files) for files in weights)
    )
