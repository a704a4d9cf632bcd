"""Build a VLM from a pretrained vision tower, a new connector and a pretrained language model.

It is a stock `LlavaForConditionalGeneration` (with tiles a `LlavaNextForConditionalGeneration`) with a stock processor,
so everything that works with LLaVA works with it. The connector is Linear(V -> D), GELU, Linear(D -> D).
Legend: V width of the tower, D width of the language model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
)

from halp_probe.fused.options import FusedParts as FusedParts
from halp_probe.fused.parts import TURN_END, Language, Vision, open_language, open_vision
from halp_probe.fused.processor import letterbox_processor, pinpoints, tiles_processor, tiles_strategy
from halp_probe.models.compat import ties_last_hidden_states
from halp_probe.models.dtypes import cast_parameters, note_dtype
from halp_probe.models.errors import ModelError


@dataclass(frozen=True)
class FusedModel:
    """A fused model, in eval mode on the CPU, and its processor."""

    model: Any  # a LlavaForConditionalGeneration or LlavaNextForConditionalGeneration
    processor: Any


def build(parts: FusedParts, *, cache_dir: str | None = None, dtype: str = "auto", seed: int = 0) -> FusedModel:
    """Join the parts by a connector with new weights, drawn from `seed` by torch's own initialisation.

    The weights of both parts equal those of their checkpoints bit by bit if `dtype` can hold them; "auto" is the
    smallest dtype that holds both. Without tiles the image's tokens are all of the tower's states, the class token of a
    ViT or CLIP included (145 for google/vit-base-patch32-384); with tiles the class token is left out. Raises
    ModelError for parts that cannot be loaded or do not fit together.
    """
    with torch.random.fork_rng(devices=[]):  # loading draws, too, for weights that a checkpoint lacks
        return _build(parts, cache_dir, dtype, seed)


def save(fused: FusedModel, folder: Path) -> None:
    """Save model and processor in `folder`, from which transformers' auto classes load both."""
    fused.model.save_pretrained(folder)
    fused.processor.save_pretrained(folder)


def lora_targets(mlp: bool) -> str:
    """Return PEFT's `target_modules` for the language model's attention projections, with `mlp` also its MLPs'.

    It is a pattern, since the vision tower's attention has the same names.
    """
    feed_forward = r"|mlp\.(gate|up|down)_proj" if mlp else ""
    return rf"(.*\.)?language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj{feed_forward})"


def connector(model: Any) -> nn.Module:
    """Return the connector of a fused model, also inside a PEFT model."""
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    projector: nn.Module = bare.model.multi_modal_projector
    return projector


def _build(parts: FusedParts, cache_dir: str | None, dtype: str, seed: int) -> FusedModel:
    torch_dtype = dtype if dtype == "auto" else getattr(torch, dtype)
    vision = open_vision(parts.vision, cache_dir=cache_dir, dtype=torch_dtype)
    _check_layernorm(parts, vision)
    language = open_language(parts.language, cache_dir=cache_dir, dtype=torch_dtype)
    model = _join(_config(parts, vision, language), vision, language, seed)
    cast_parameters(model, torch.promote_types(vision.tower.dtype, language.model.dtype))
    note_dtype(model.config, model.dtype)
    model.generation_config = _generation(language)
    if parts.tiles:
        processor = tiles_processor(vision, language.tokenizer, parts.tiles)
    else:
        processor = letterbox_processor(vision, language.tokenizer)
    return FusedModel(model.eval(), processor)


def _check_layernorm(parts: FusedParts, vision: Vision) -> None:
    if not parts.vision_layernorm:
        return
    if not vision.kind.normed:
        raise ModelError(
            f"vision layernorm: {parts.vision!r} is a CLIP, whose final LayerNorm is for its pooled class token alone; "
            "leave it out, or choose a ViT or SigLIP"
        )
    if not ties_last_hidden_states():
        raise ModelError("vision layernorm: this transformers does not know tie_last_hidden_states; upgrade it")


def _config(parts: FusedParts, vision: Vision, language: Language) -> Any:
    tower = vision.tower.config
    if parts.vision_layernorm:
        tower.tie_last_hidden_states = True
    patches = (vision.side // vision.patch_size) ** 2
    settings = {
        "vision_config": tower,
        "text_config": language.model.config,
        "image_token_index": language.image_token_id,
        "vision_feature_layer": -1,
        "tie_word_embeddings": language.model.config.tie_word_embeddings,
    }
    if parts.tiles:
        return LlavaNextConfig(
            **settings,
            vision_feature_select_strategy=tiles_strategy(vision.kind.class_token),
            image_grid_pinpoints=pinpoints(vision.side, parts.tiles),
            image_seq_length=patches,
        )
    tokens = patches + int(vision.kind.class_token)
    return LlavaConfig(**settings, vision_feature_select_strategy="full", image_seq_length=tokens)


def _join(config: Any, vision: Vision, language: Language, seed: int) -> Any:
    """Build the model of this config around the parts' own modules; only the connector is new."""
    tiles = isinstance(config, LlavaNextConfig)
    with torch.device("meta"):
        model = (LlavaNextForConditionalGeneration if tiles else LlavaForConditionalGeneration)(config)
    inner = model.model
    inner.vision_tower, inner.language_model = vision.tower, language.model.model
    model.lm_head = language.model.lm_head
    torch.manual_seed(seed)
    inner.multi_modal_projector = type(inner.multi_modal_projector)(config)
    if tiles:
        width = config.text_config.hidden_size
        inner.image_newline = nn.Parameter(torch.randn(width) * width**-0.5)
    return model


def _generation(language: Language) -> Any:
    """Return the language model's generation config, with the turn's end as an end token, also for a base model."""
    config = language.model.generation_config
    end = language.tokenizer.convert_tokens_to_ids(TURN_END)
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    if end not in ends:
        config.eos_token_id = [end, *(other for other in ends if other is not None)]
    return config
