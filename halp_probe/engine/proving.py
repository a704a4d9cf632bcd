"""Prove that states of a family that was looked up, and is not in the table, are those of a plain forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch

from halp_probe.distances import relative_distance
from halp_probe.engine.capture import capture_outputs
from halp_probe.engine.engine import Engine
from halp_probe.engine.preparing import Preparer
from halp_probe.engine.prompting import Prompt
from halp_probe.errors import InputError
from halp_probe.models.loading import LoadedModel
from halp_probe.records import Captured, CaptureSpec, Sample

_MAX_IMAGES = 4  # images, one question each, in one batch, so that padding is tested too
ALLOWED = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}  # of a vector's length


def prove_looked_up(
    loaded: LoadedModel, layers: tuple[int, ...], preparer: Preparer, images: Iterable[list[Sample]]
) -> None:
    """Compare the first prompts' states, read in one batch, with those of a plain forward pass of each alone.

    Raises InputError if they differ by more than rounding, or if there is no prompt to compare.
    """
    prepared = (prompt for samples in images for prompt in preparer(samples[:1]))
    prompts = list(islice((prompt for prompt in prepared if isinstance(prompt, Prompt)), _MAX_IMAGES))
    name = loaded.checkpoint.model_type
    if not prompts:
        raise InputError(f"no question can be read, so what the lookups found for {name!r} cannot be checked")
    rows = Engine(loaded, CaptureSpec(layers, max_new_tokens=0)).run(prompts)
    worst = max(plain_difference(loaded, prompt, row) for prompt, row in zip(prompts, rows, strict=True))
    if not worst <= ALLOWED[loaded.model.dtype]:
        raise InputError(
            f"what the lookups found for {name!r} is wrong: states differ from those of a plain forward pass by "
            f"{worst:.2g} of a vector's length; add a row for it in halp_probe/models/families/ and prove it"
        )


def _inputs(loaded: LoadedModel, prompt: Prompt) -> dict[str, torch.Tensor]:
    ids = torch.from_numpy(prompt.input_ids)[None].to(loaded.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for key, tensor in prompt.images.items():
        inputs[key] = tensor.to(loaded.device, loaded.model.dtype if tensor.is_floating_point() else tensor.dtype)
    types = loaded.checkpoint.family.token_types
    if types is not None and prompt.token_types is not None:
        inputs[types.name] = torch.from_numpy(prompt.token_types)[None].to(loaded.device)
    return inputs


@torch.no_grad()
def plain_difference(
    loaded: LoadedModel, prompt: Prompt, row: Captured, inputs: Mapping[str, Any] | None = None
) -> float:
    """Return the largest difference from a plain pass, over both positions, all layers and the confidence.

    `inputs` are those of `forward`; None: what the family's row says that the prompt needs.
    """
    if inputs is None:
        inputs = _inputs(loaded, prompt)
    layers = list(row.query_token)
    family = loaded.checkpoint.family
    blocks = family.blocks(loaded.model)
    positions = prompt.positions
    boundary = [positions.vision_index] if prompt.image_count else []
    places = torch.tensor([*boundary, positions.query_index])
    read_blocks = {layer: blocks[layer] for layer in layers}
    with capture_outputs(read_blocks, torch.zeros_like(places), places, family.block_states) as read:
        outputs = loaded.model(**inputs, output_hidden_states=True)
    best = float(outputs.logits[0, -1].float().log_softmax(-1).max())
    differences = [abs(row.first_token_logprob - best) / max(abs(best), 1.0)]
    for layer in layers:
        *vision, query = read[layer].float().cpu().numpy()
        differences += [float(relative_distance(row.vision_token[layer], state)) for state in vision]
        differences.append(float(relative_distance(row.query_token[layer], query)))
        # The last is returned after the norm, image tokens after additions, and some families return something else.
        if layer + 1 < loaded.num_layers and family.block_states is None:
            state = outputs.hidden_states[layer + 1][0, positions.query_index]
            differences.append(float(relative_distance(row.query_token[layer], state.float().cpu().numpy())))
    return float(np.max(differences))
