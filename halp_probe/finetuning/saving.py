"""Saving of the trained model: `model/` with the connector, `adapter/` with LoRA for it, and the original's files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from halp_probe.files import whole_folder
from halp_probe.finetuning.options import TrainOptions
from halp_probe.finetuning.outputs import ADAPTER, MODEL, ORIGINAL
from halp_probe.finetuning.stages import Learning, connector_weights
from halp_probe.finetuning.start import Start, read_unquantized
from halp_probe.fused.model import FusedModel, save
from halp_probe.fused.original_lora import write_original
from halp_probe.json_files import read_json, write_json
from halp_probe.models.adapters import CONFIG_FILE, write_trained_on
from halp_probe.models.fingerprints import local_revision

_SAVED = "saved.json"  # written last


def has_model(folder: Path) -> bool:
    """Return whether `write_model` has finished here."""
    return (folder / _SAVED).is_file()


def write_model(options: TrainOptions, start: Start, learned: Learning) -> None:
    """Write all of it; each folder appears whole or not at all."""
    folder = options.output_dir
    lora = learned.model is not learned.fused
    if lora:
        _rewrite(folder / ADAPTER, lambda path: _save_adapter(learned.model, path, folder / MODEL))
        learned.model.unload()
    model = learned.fused
    if options.machine.quantization:
        model = read_unquantized(options, start.checkpoint)
    for weight, trained in zip(connector_weights(model), connector_weights(learned.fused), strict=True):
        weight.data = trained.data.to("cpu" if options.machine.quantization else trained.device, model.dtype)
    _rewrite(folder / MODEL, lambda path: save(FusedModel(model, start.checkpoint.processor), path))
    if model.config.model_type == "llava":
        adapter = folder / ADAPTER if lora else None
        _rewrite(folder / ORIGINAL, lambda path: write_original(model, path, adapter=adapter))
    if lora:
        write_trained_on(folder / ADAPTER, local_revision(folder / MODEL))
    write_json(folder / _SAVED, {"model": MODEL, "adapter": ADAPTER if lora else None})


def _rewrite(folder: Path, write: Callable[[Path], None]) -> None:
    """Write the folder anew, also if a killed run left an unfinished one."""
    shutil.rmtree(folder, ignore_errors=True)
    with whole_folder(folder) as partial:
        write(partial)


def _save_adapter(peft_model: Any, folder: Path, base: Path) -> None:
    peft_model.save_pretrained(folder)
    config = read_json(folder / CONFIG_FILE)
    write_json(folder / CONFIG_FILE, config | {"base_model_name_or_path": str(base.resolve())})
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's model card, with nothing filled in
