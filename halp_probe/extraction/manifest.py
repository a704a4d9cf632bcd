"""Settings of a run: `run.json`, which protects its folder from other settings, and the attributes of its shards."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from halp_probe.engine.provenance import VERSIONS
from halp_probe.engine.sharing import Sharing
from halp_probe.errors import InputError
from halp_probe.json_files import read_json, write_json
from halp_probe.models.loading import LoadedModel
from halp_probe.settings import differences
from halp_probe.state_identity import LAYER_MEANING

MANIFEST_FILE = "run.json"
_SHARING = "prefix_sharing"


def shard_attributes(loaded: LoadedModel, settings: dict[str, Any], *, prefix_shared: bool) -> dict[str, Any]:
    """Return a shard's attributes, except for those that its writer adds."""
    names = [adapter.name for adapter in loaded.checkpoint.adapters]
    return {
        **{name: value for name, value in settings.items() if value is not None},
        **({"adapter_names": json.dumps(names, ensure_ascii=False)} if names else {}),
        "model_type": loaded.checkpoint.name.rstrip("/").split("/")[-1].lower(),
        "config_model_type": loaded.checkpoint.model_type,
        "device": str(loaded.device),
        "num_layers": loaded.num_layers,
        "layer_meaning": LAYER_MEANING,
        "prefix_shared": prefix_shared,
        "image_token_id": loaded.checkpoint.image_token_id,
        **VERSIONS,
    }


def check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Raise InputError naming every setting in which the folder's run.json differs from these."""
    path = folder / MANIFEST_FILE
    if not path.exists():
        if any(folder.glob("*.h5")):
            raise InputError(
                f"{folder} holds HDF5 files but no {MANIFEST_FILE}: another program wrote them; choose another "
                "`output_dir`"
            )
        return
    if found := differences(_read(folder)["settings"], settings):
        raise InputError(
            f"{folder} was captured with other settings: {found}. Use the same settings to resume it, or choose "
            "another `output_dir`"
        )


def read_prompt_date(folder: Path) -> str | None:
    """Read the date in the prompts of an existing run; None if there is no run or no date."""
    if not (folder / MANIFEST_FILE).exists():
        return None
    date: str | None = _read(folder)["settings"].get("prompt_date")
    return date


def write_manifest(folder: Path, settings: dict[str, Any], details: dict[str, Any]) -> None:
    """Write the settings, and further details of the first run; an existing record is kept."""
    if not (folder / MANIFEST_FILE).exists():
        _write(folder, {"settings": settings, **details, **VERSIONS})


def record_sharing(folder: Path, sharing: Sharing) -> None:
    """Add to the folder's record whether prompts share prefixes, so that a resumed run does the same."""
    _write(folder, {**_read(folder), _SHARING: asdict(sharing)})


def read_sharing(folder: Path) -> Sharing | None:
    """Read the recorded result; None before the trial."""
    recorded = _read(folder).get(_SHARING)
    return None if recorded is None else Sharing(**recorded)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_FILE
    record = read_json(path, "choose another `output_dir`")
    if not isinstance(record, dict) or "settings" not in record:
        raise InputError(f"{path} is not a run's record; choose another `output_dir`")
    return record


def _write(folder: Path, record: dict[str, Any]) -> None:
    write_json(folder / MANIFEST_FILE, record)
