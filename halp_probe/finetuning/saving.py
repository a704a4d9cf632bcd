"""The trained model on disk: `model/` with the connector, `adapter/` with LoRA on it, and the original's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from halp_probe.files import atomic_text, whole_folder
from halp_probe.finetuning.options import TrainOptions
from halp_probe.finetuning.outputs import ADAPTER, MODEL, ORIGINAL
from halp_probe.finetuning.stages import Learning
from halp_probe.finetuning.start import Start, unquantized
from halp_probe.models.adapters import CONFIG_FILE
from halp_probe.models.fused import Fused, connector, save

_SAVED = "saved.json"  # written last


def saved(folder: Path) -> bool:
    """Whether `write_model` has finished here."""
    return (folder / _SAVED).is_file()


def write_model(options: TrainOptions, start: Start, learned: Learning) -> None:
    """Write all of it; each folder appears whole or not at all."""
    folder = options.output_dir
    lora = learned.model is not learned.fused
    if lora:
        _rewritten(folder / ADAPTER, lambda path: _save_adapter(learned.model, path, folder / MODEL))
        learned.model.unload()
    model = learned.fused
    if options.machine.quantization:
        trained = connector(model).state_dict()
        model = unquantized(options.parts, start.checkpoint)
        connector(model).load_state_dict(trained)
    connector(model).to(model.dtype)
    _rewritten(folder / MODEL, lambda path: save(Fused(model, start.checkpoint.processor), path))
    with atomic_text(folder / _SAVED) as file:
        json.dump({"model": MODEL, "adapter": ADAPTER if lora else None}, file)
