"""What a run was captured with: `run.json`, which guards its folder, and the attributes of its shards."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
import transformers

from halp_probe import __version__
from halp_probe.errors import InputError
from halp_probe.extraction.prompting import PROMPT, Prompter
from halp_probe.files import atomic_text
from halp_probe.models.loading import LoadedModel
from halp_probe.records import CaptureSpec

MANIFEST_FILE = "run.json"
LAYER_MEANING = "layer k is the output of decoder block k, before the final norm and before any DeepStack addition"
VERSIONS = {
    "halp_probe_version": __version__,
    "torch_version": str(torch.__version__),
    "transformers_version": transformers.__version__,
}


def run_settings(loaded: LoadedModel, prompter: Prompter, spec: CaptureSpec) -> dict[str, Any]:
    """What must not change inside one run folder: each of these shows in the captured numbers."""
    checkpoint = loaded.checkpoint
    bounds = prompter.pixel_bounds
    return {
        "model_name": checkpoint.name,
        "revision": checkpoint.revision,
        "layers": list(spec.layers),
        "max_new_tokens": spec.max_new_tokens,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "attn_implementation": loaded.model.config._attn_implementation,
        "prompt": PROMPT,
        "chat_template_sha256": hashlib.sha256(str(checkpoint.processor.chat_template).encode()).hexdigest(),
        "min_pixels": bounds[0] if bounds else None,
        "max_pixels": bounds[1] if bounds else None,
    }


def shard_attributes(loaded: LoadedModel, settings: dict[str, Any]) -> dict[str, Any]:
    """A shard's attributes beside those that its writer adds."""
    return {
        **{name: value for name, value in settings.items() if value is not None},
        "model_type": loaded.checkpoint.name.rstrip("/").split("/")[-1].lower(),
        "config_model_type": loaded.checkpoint.model_type,
        "device": str(loaded.device),
        "num_layers": loaded.num_layers,
        "layer_meaning": LAYER_MEANING,
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
                "--output-dir"
            )
        return
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))["settings"]
    except (json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a run's record ({error}); choose another --output-dir") from error
    differences = [
        f"{name} is {stored.get(name)!r} there and {settings.get(name)!r} now"
        for name in sorted({*stored, *settings})
        if stored.get(name) != settings.get(name)
    ]
    if differences:
        raise InputError(
            f"{folder} was captured with other settings: {'; '.join(differences)}. "
            "Use the same ones to go on, or choose another --output-dir"
        )


def write_manifest(folder: Path, settings: dict[str, Any], about: dict[str, Any]) -> None:
    """Write the settings, and beside them what is worth knowing of the first run; a record that is there stays."""
    if (folder / MANIFEST_FILE).exists():
        return
    with atomic_text(folder / MANIFEST_FILE) as file:
        json.dump({"settings": settings, **about, **VERSIONS}, file, indent=2, ensure_ascii=False)
        file.write("\n")
