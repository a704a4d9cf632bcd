"""Merge a stack of adapters into a model's weights, prove that nothing changed, and save it as a checkpoint.

Weights are merged in float32, whatever dtype is saved, and every step is proved on a few questions: (1) after each
merge the model computes the same as with that adapter unmerged; (2) the written files, loaded again with their own
processor, compute the same as the model in memory whose weights were rounded to the saved dtype. Both hold to 1e-5 of a
vector's length in float32 arithmetic, so a saved bfloat16 (7 bits) or float16 (10 bits) model differs in the end by the
rounding of its weights and nothing else; that difference is measured and reported.
Legend: R prompts, L blocks, W a reading's width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from halp_probe.distances import relative_distance
from halp_probe.engine.engine import Engine
from halp_probe.engine.images import from_pixels
from halp_probe.engine.prompting import Prompter
from halp_probe.errors import InputError
from halp_probe.files import whole_folder
from halp_probe.models.adapters import Adapter, attach, merge, write_merge_record
from halp_probe.models.dtypes import cast_parameters, note_dtype
from halp_probe.models.errors import ModelError
from halp_probe.models.loading import Checkpoint, LoadedModel, load_weights, open_checkpoint
from halp_probe.models.whole_weights import read_weights
from halp_probe.records import QUERY_TOKEN, VISION_ENCODER, VISION_ONLY, VISION_TOKEN, CaptureSpec, Sample
from halp_probe.shapes import questions, scenes
from halp_probe.shards.names import layer_name

TOLERANCE = 1e-5  # of a vector's length, in float32 arithmetic
_SCENES = 3
Readings: TypeAlias = Mapping[str, np.ndarray]  # representation or "logits" -> [R, W]


@dataclass(frozen=True, kw_only=True)
class MergeResult:
    """Result of a proved merge; differences are the largest |a - b| / |b| over all readings."""

    dtype: str
    size: int  # bytes on disk
    merging: float  # between the merge in float32 and the unmerged adapters
    saving: float  # between the saved files and the model in memory in the saved dtype
    total: float  # between the saved files and the unmerged adapters: merging, saving and rounding


def merge_adapters(
    checkpoint: Checkpoint,
    output: Path,
    *,
    dtype: str | None = None,
    max_shard_size: str = "5GB",
    cache_dir: str | None = None,
    device: str = "cpu",
) -> MergeResult:
    """Write the checkpoint with its adapters merged, in order, as the new folder `output`.

    `dtype` is that of the saved weights, None = the base's own. This needs 4 bytes a parameter of the device's memory.
    Raises InputError for a folder that is not empty and for adapters that do not fit, and ModelError if the proof
    fails; then nothing is kept.
    """
    if not checkpoint.adapters:
        raise InputError("nothing to merge: pass `adapter`")
    if getattr(checkpoint.config, "quantization_config", None) is not None:
        raise ModelError(
            f"{checkpoint.name} is quantized, and merging into it loses precision; merge into the unquantized model"
        )
    if checkpoint.trusted:
        raise ModelError(
            f"{checkpoint.name} runs its own code, which a merged folder would not contain: it cannot be merged"
        )
    saved_dtype = dtype or own_dtype(checkpoint)
    with whole_folder(output) as folder:
        return _merge_into(folder, checkpoint, saved_dtype, max_shard_size, cache_dir, device)


def own_dtype(checkpoint: Checkpoint) -> str:
    """Return the dtype of the checkpoint's files from its config. Raises ModelError if that names none."""
    config = checkpoint.config
    dtype = config.dtype or config.get_text_config().dtype
    if dtype is None:
        raise ModelError(f"the config of {checkpoint.name} names no dtype; pass `dtype`")
    return str(dtype).removeprefix("torch.")


def _merge_into(
    folder: Path, checkpoint: Checkpoint, dtype: str, max_shard_size: str, cache_dir: str | None, device: str
) -> MergeResult:
    model = read_weights(checkpoint, cache_dir=cache_dir, dtype="float32").to(device).eval()
    merging = 0.0
    for adapter in checkpoint.adapters:
        model, step, unmerged = _merge_one(checkpoint, model, adapter)
        merging = max(merging, step)
    cast_parameters(model, getattr(torch, dtype))
    note_dtype(model.config, getattr(torch, dtype))
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    checkpoint.processor.save_pretrained(folder)
    write_merge_record(folder, checkpoint.name, checkpoint.revision, checkpoint.adapters)
    cast_parameters(model, torch.float32)
    rounded = read(LoadedModel(checkpoint=replace(checkpoint, adapters=()), model=model))
    del model
    reloaded = read(load_weights(open_checkpoint(str(folder)), device=device, dtype="float32"))
    saving = _check_close(reloaded, rounded, "what was saved differs from the merged model")
    total = largest_difference(reloaded, unmerged)[0]
    if dtype == "float32":
        _check_close(reloaded, unmerged, "the saved model differs from the one with unmerged adapters")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return MergeResult(dtype=dtype, size=size, merging=merging, saving=saving, total=total)


def _merge_one(checkpoint: Checkpoint, model: Any, adapter: Adapter) -> tuple[Any, float, Readings]:
    """Merge one more adapter; return the model, its largest difference, and the readings before the merge."""
    wrapped = attach(model, adapter)
    unmerged = read(LoadedModel(checkpoint=checkpoint, model=wrapped.get_base_model()))
    merged = merge(wrapped, adapter)
    after = read(LoadedModel(checkpoint=checkpoint, model=merged))
    return merged, _check_close(after, unmerged, f"merging {adapter.name} changes what the model computes"), unmerged


def read(loaded: LoadedModel) -> Readings:
    """Read all states and the first token's logits of a few questions on generated pictures, in one batch."""
    prompter = Prompter(checkpoint=loaded.checkpoint)
    prompts = []
    for scene in map(scenes.make_scene, range(_SCENES)):
        question = questions.ask(scene, 1)[0].text
        prompts.append(
            prompter.prompt(
                Sample(question_id=f"scene {scene.seed}", image_id="", question=question, answer=""),
                from_pixels(scenes.render(scene)),
            )
        )
    layers = tuple(range(loaded.num_layers))
    logits: list[torch.Tensor] = []
    hook = loaded.model.get_output_embeddings().register_forward_hook(lambda _m, _a, output: logits.append(output))
    try:
        computed = Engine(loaded, CaptureSpec(layers, max_new_tokens=0)).compute(prompts)
    finally:
        hook.remove()
    names = [layer_name(position, layer) for position in (VISION_TOKEN, QUERY_TOKEN) for layer in layers]
    states = {name: computed.vectors(name) for name in (VISION_ONLY, VISION_ENCODER, *names)}
    return {**states, "logits": torch.cat(logits).flatten(1).float().cpu().numpy()}


def largest_difference(readings: Readings, reference: Readings) -> tuple[float, str]:
    """Return the largest |a - b| / |b|, and the name of its reading; nan counts as infinite."""
    found = []
    for name, expected in reference.items():
        share = relative_distance(readings[name], expected)  # [R]
        found.append((float(np.nan_to_num(share, nan=np.inf).max()), name))
    return max(found)


def _check_close(readings: Readings, reference: Readings, otherwise: str) -> float:
    difference, name = largest_difference(readings, reference)
    if difference > TOLERANCE:
        raise ModelError(
            f"{otherwise}: {name} by {difference:.2g} of its length, at most {TOLERANCE:g} is allowed; nothing was "
            "kept. Use the adapters unmerged (`adapter`), and report this as a bug"
        )
    return difference
