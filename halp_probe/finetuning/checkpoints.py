"""Checkpoints of a stage: the learned weights alone beside the trainer's own state, and which of them are complete."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from halp_probe.errors import InputError

LEARNED = "learned.safetensors"
_WHOLE = "whole"  # written last: a checkpoint without it was being written when the run was killed


def save_learned(model: Any, path: Path) -> None:
    """Write the parameters that are trained, under their names in `model`; it appears whole or not at all."""
    learned = {
        name: weight.detach().cpu().contiguous() for name, weight in model.named_parameters() if weight.requires_grad
    }
    partial = path.with_suffix(".partial")
    save_file(learned, partial)
    partial.replace(path)


def load_learned(model: Any, path: Path) -> None:
    """Load what `save_learned` wrote into the model. Raises InputError where names or shapes differ."""
    saved = load_file(path)
    own = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    shapes = {name: tuple(weight.shape) for name, weight in own.items()}
    if shapes != {name: tuple(weight.shape) for name, weight in saved.items()}:
        raise InputError(f"{path} holds the weights of another model; choose another `output_dir`")
    for name, weight in own.items():
        weight.data.copy_(saved[name])


def mark_whole(checkpoint: Path) -> None:
    """Mark this checkpoint as completely written."""
    (checkpoint / _WHOLE).touch()


def last_whole(folder: Path) -> Path | None:
    """Return the newest complete checkpoint in `folder`; None without one."""
    steps = {
        int(found[1]): path
        for path in folder.glob("checkpoint-*")
        if (found := re.fullmatch(r"checkpoint-(\d+)", path.name)) and (path / _WHOLE).is_file()
    }
    return steps[max(steps)] if steps else None
