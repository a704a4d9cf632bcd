"""Manifest of a training run, `run.json`, which guards its folder against other settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from halp_probe.errors import InputError
from halp_probe.finetuning.gather import GatheredData
from halp_probe.finetuning.mixing import content_of
from halp_probe.finetuning.options import TrainOptions
from halp_probe.finetuning.records import Source
from halp_probe.finetuning.start import Start, resolve_device
from halp_probe.json_files import read_json, write_json
from halp_probe.settings import differences

MANIFEST_FILE = "run.json"
_DATA = "_data"  # suffix of the digests' names in it


def settings_of(options: TrainOptions, start: Start) -> dict[str, Any]:
    """Return the settings that affect the trained weights and are known before the data are checked.

    A resumed run must have the same.
    """
    device, dtype = resolve_device(options.machine)
    schedule = {name: value for name, value in asdict(options.schedule).items() if name != "workers"}
    return {
        **start.identity,
        **schedule,
        "precision": dtype,
        "device": torch.device(device).type,
        "quantization": options.machine.quantization,
        "attn_implementation": start.model.config._attn_implementation,
        "held_out": options.data.held_out,
        "max_tokens": options.data.max_tokens,
        "weights": dict(options.data.weights),
        "shapes": options.data.shapes,
        **{f"{name}_json": content_of(path).hex()[:16] for name, (path, _) in options.data.files.items()},
        **{stage.name: asdict(stage) for stage in options.stages},
    }


def digests(gathered: GatheredData) -> dict[str, str]:
    """Return digests of what each stage learns from and is evaluated on: texts and pictures, not their paths."""
    return {
        f"stage{number}{_DATA}": _digest((*parts.train, *parts.held_out), gathered.contents)
        for number, parts in gathered.stages.items()
    }


def _digest(sources: Sequence[Source], contents: Mapping[Path, bytes]) -> str:
    digest = hashlib.sha256()
    for each in (each for source in sources for each in source.conversations):
        turns = [[turn.question, turn.answer] for turn in each.turns]
        picture = None if each.image is None else contents[each.image].hex()
        digest.update(json.dumps([each.source, each.key, picture, turns]).encode())
    return digest.hexdigest()[:16]


def guard(folder: Path, settings: dict[str, Any]) -> None:
    """Write the folder's run.json; raise InputError where it belongs to another run."""
    if not refuse_another(folder, settings):
        write_json(folder / MANIFEST_FILE, settings)


def refuse_another(folder: Path, settings: dict[str, Any]) -> bool:
    """Return whether the folder has a run.json; raise InputError where it belongs to another run.

    Digests that are not known yet pass.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        return False
    stored = read_json(path, "choose another `output_dir`")
    unknown = {name: value for name, value in stored.items() if name.endswith(_DATA) and name not in settings}
    if found := differences(stored, unknown | json.loads(json.dumps(settings))):
        raise InputError(f"{folder} holds another training run: {found}; choose another `output_dir`")
    return True
