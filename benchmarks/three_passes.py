"""The original method's protocol on transformers as it ships: a question at a time, and three passes for each.

It is written to lose no time that the protocol does not ask for. Legend: T tokens of one prompt, D decoder width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from halp_probe.engine.prompting import Prompt
from halp_probe.models.loading import LoadedModel


@dataclass(frozen=True, kw_only=True)
class Passed:
    """What the three passes give for one question; vectors [D] float32."""

    vision_only: np.ndarray
    vision_token: dict[int, np.ndarray]  # layer -> state at the image boundary
    query_token: dict[int, np.ndarray]  # layer -> state at the last prompt token
    answer: str  # "" without answers


@torch.no_grad()
def three_passes(
    loaded: LoadedModel, prompts: Sequence[Prompt], layers: Sequence[int], new_tokens: int
) -> list[Passed]:
    """The prompts one by one; `new_tokens` = 0 leaves the first pass out."""
    with stock_vision_tower(loaded):
        return [_question(loaded, prompt, layers, new_tokens) for prompt in prompts]


@contextmanager
def stock_vision_tower(loaded: LoadedModel) -> Iterator[None]:
    """Inside the context, the vision tower is as transformers ships it: attention by "sdpa", patches by Conv3d."""
    model, projection = loaded.model, loaded.checkpoint.family.patch_projection
    configs = [model.config.vision_config, model.model.visual.config]  # the same object or two
    before = [config._attn_implementation for config in configs]
    ours = model.get_submodule(projection)
    try:
        for config in configs:
            config._attn_implementation = "sdpa"
        model.set_submodule(projection, _convolution(ours.weight))
        yield
    finally:
        model.set_submodule(projection, ours)
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation = implementation


def _convolution(weight: torch.nn.Parameter) -> torch.nn.Conv3d:
    width, colours, *_ = weight.shape
    kernel = (weight.shape[2], weight.shape[3], weight.shape[4])
    convolution = torch.nn.Conv3d(colours, width, kernel, stride=kernel, bias=False, device="meta")
    convolution.weight = weight
    return convolution


def _question(loaded: LoadedModel, prompt: Prompt, layers: Sequence[int], new_tokens: int) -> Passed:
    model = loaded.model
    ids = torch.from_numpy(prompt.input_ids)[None]  # [1, T]
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": torch.from_numpy(prompt.token_types)[None],
        **prompt.images,
    }
    inputs = {name: tensor.to(loaded.device) for name, tensor in inputs.items()}
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)

    answer = ""
    if new_tokens:
        generated = model.generate(**inputs, do_sample=False, max_new_tokens=new_tokens)  # [1, T + new]
        tokenizer = loaded.checkpoint.processor.tokenizer
        answer = tokenizer.decode(generated[0, len(prompt) :], skip_special_tokens=True).strip()

    images = {name: inputs[name] for name in loaded.checkpoint.family.image_inputs}
    features = model.get_image_features(**images, return_dict=True).pooler_output[0]  # [image tokens, D]
    vision_only = features.float().mean(0).cpu().numpy()

    states = _whole_layers(loaded, inputs, layers)
    at = prompt.positions
    return Passed(
        vision_only=vision_only,
        vision_token={layer: states[layer][0, at.vision_index].float().numpy() for layer in layers},
        query_token={layer: states[layer][0, at.query_index].float().numpy() for layer in layers},
        answer=answer,
    )


def _whole_layers(
    loaded: LoadedModel, inputs: dict[str, torch.Tensor], layers: Sequence[int]
) -> dict[int, torch.Tensor]:
    """A forward with the logits of every token; layer -> [1, T, D] on the CPU."""
    kept: dict[int, torch.Tensor] = {}

    def keep(layer: int, output: torch.Tensor) -> None:
        kept[layer] = output.cpu()

    blocks = loaded.checkpoint.family.blocks(loaded.model)
    hooks = [
        blocks[layer].register_forward_hook(lambda _module, _args, output, layer=layer: keep(layer, output))
        for layer in layers
    ]
    try:
        loaded.model(**inputs, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return kept
