"""Model at the start of a training run: built from parts, or an existing fused one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halp_probe.finetuning.options import Machine, TrainOptions
from halp_probe.fused.model import FusedModel, build
from halp_probe.models.errors import ModelError
from halp_probe.models.families import family_of
from halp_probe.models.fingerprints import local_revision
from halp_probe.models.hub_cache import locate
from halp_probe.models.loading import Checkpoint, device_and_dtype, open_checkpoint
from halp_probe.models.naming import source_of
from halp_probe.models.quantization import bitsandbytes_config, keep_trainable
from halp_probe.models.whole_weights import read_weights

MODEL_TYPES = ("llava", "llava_next")
_NOT_QUANTIZED = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]  # the connector is trained


@dataclass(frozen=True, kw_only=True)
class Start:
    """Model on its device, before training."""

    model: Any
    checkpoint: Checkpoint
    identity: dict[str, Any]  # its entries in run.json


def open_start(options: TrainOptions) -> Start:
    """Load or build the model. Raises ModelError for a model that cannot be trained as a fused one."""
    device, dtype = resolve_device(options.machine)
    if options.machine.quantization:
        return _of_model(options, device, dtype)
    start = _of_parts(options, dtype) if options.model is None else _of_model(options, device, dtype)
    return Start(model=start.model.to(device), checkpoint=start.checkpoint, identity=start.identity)


def resolve_device(machine: Machine) -> tuple[str, str]:
    """Return device and dtype of training; raises as `device_and_dtype` does."""
    return device_and_dtype(machine.device, machine.dtype)


def read_unquantized(options: TrainOptions, checkpoint: Checkpoint) -> Any:
    """Read the same model's weights as its folder has them, onto the CPU."""
    return read_weights(checkpoint, cache_dir=options.cache_dir, dtype="auto")


def _of_parts(options: TrainOptions, dtype: str) -> Start:
    parts = options.parts
    fused: FusedModel = build(parts, cache_dir=options.cache_dir, dtype=dtype, seed=options.schedule.seed)
    if options.machine.attn_implementation:
        fused.model.set_attn_implementation(options.machine.attn_implementation)
    config = fused.model.config
    family = family_of(config.model_type)
    checkpoint = Checkpoint(
        name="the fused model",
        source="",
        revision="not saved yet",
        config=config,
        processor=fused.processor,
        family=family,
    )
    identity = {
        "vision": parts.vision,
        "vision_revision": _revision(parts.vision, options.cache_dir),
        "language": parts.language,
        "language_revision": _revision(parts.language, options.cache_dir),
        "tiles": parts.tiles,
        "vision_layernorm": parts.vision_layernorm,
    }
    return Start(model=fused.model, checkpoint=checkpoint, identity=identity)


def _of_model(options: TrainOptions, device: str, dtype: str) -> Start:
    machine, cache_dir = options.machine, options.cache_dir
    checkpoint = open_checkpoint(options.model, cache_dir=cache_dir)
    if checkpoint.model_type not in MODEL_TYPES:
        raise ModelError(
            f"`model` {checkpoint.name} is a {checkpoint.model_type!r}; train-vlm trains {' and '.join(MODEL_TYPES)}, "
            "as halp-probe fuse writes them"
        )
    how: dict[str, Any] = {"attn_implementation": machine.attn_implementation}
    if machine.quantization:
        config = bitsandbytes_config(machine.quantization, dtype)
        config.llm_int8_skip_modules = _NOT_QUANTIZED
        how |= {"quantization_config": config, "device_map": device}
    model = read_weights(checkpoint, cache_dir=cache_dir, dtype=dtype, **how)
    if machine.quantization:
        keep_trainable(model)
    return Start(
        model=model, checkpoint=checkpoint, identity={"model": checkpoint.name, "revision": checkpoint.revision}
    )


def _revision(name: str, cache_dir: str) -> str:
    source = source_of(name)
    if Path(source).is_dir():
        return local_revision(Path(source))
    return str(locate(source, None, cache_dir=cache_dir)[1])
