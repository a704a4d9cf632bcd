"""Tiny fused models, built as any user's from folders of pretrained parts, which are written here too."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from halp_probe.fused.model import FusedParts, build
from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, Tiny, text_fields, tiny_tokenizer

SIDE, PATCH = 56, 14  # pixels: 16 patches a square
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)  # none of the classes' own, as is bicubic


def write_vit(folder: Path, *, side: int = SIDE, **more: Any) -> Path:
    """A classifier, as google/vit-base-patch32-384 is: without the pooler that a `ViTModel` has."""
    config = ViTConfig(**_tower(side), **more, initializer_range=INITIALIZER_RANGE)
    return _written(folder, ViTForImageClassification(config), ViTImageProcessor(**_pixels(side)))


def write_clip(folder: Path, *, side: int = SIDE) -> Path:
    """A whole CLIP: its text half is no part of a fused model."""
    processor = CLIPImageProcessor(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=MEAN,
        image_std=STD,
    )
    return _written(folder, CLIPModel(CLIPConfig(text_config=_text(), vision_config=_tower(side))), processor)


def write_siglip(folder: Path, *, side: int = SIDE) -> Path:
    config = SiglipConfig(text_config=_text(), vision_config=_tower(side))
    return _written(folder, SiglipModel(config), SiglipImageProcessor(**_pixels(side)))


def write_language(folder: Path, *, tie: bool = True, dtype: torch.dtype = torch.float32, **more: Any) -> Path:
    """A Qwen2 with a list of end tokens that its config does not have."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ messages[0]['content'] }}"  # its own, of text alone
    model = Qwen2ForCausalLM(Qwen2Config(**text_fields(tokenizer, tie_word_embeddings=tie, **more))).to(dtype)
    model.generation_config.eos_token_id = [tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|endoftext|>")]
    model.generation_config.repetition_penalty = 1.0
    return _written(folder, model, tokenizer)


def _written(folder: Path, *parts: Any) -> Path:
    for part in parts:
        part.save_pretrained(folder)
    return folder


def _tower(side: int) -> dict[str, Any]:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    return {**sizes, "image_size": side, "patch_size": PATCH}


def _text() -> dict[str, Any]:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return {**sizes, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1}


def _pixels(side: int) -> dict[str, Any]:
    return {"size": {"height": side, "width": side}, "image_mean": MEAN, "image_std": STD, "resample": 3}


def _fused(write: Any, side: int = SIDE, **chosen: Any) -> tuple[Any, Any]:
    with tempfile.TemporaryDirectory() as folder:
        vision = write(Path(folder) / "vision", side=side)
        language = write_language(Path(folder) / "language")
        fused = build(FusedParts(vision=str(vision), language=str(language), **chosen), seed=7)
    return fused.model, fused.processor


def _last_block(loaded: LoadedModel, pixels: torch.Tensor) -> torch.Tensor:
    """What comes out of the tower's last block, [pictures, positions, V], by a hook of one's own."""
    tower = loaded.model.model.vision_tower
    blocks = tower.layers if hasattr(tower, "layers") else tower.encoder.layers
    seen: list[torch.Tensor] = []
    hook = blocks[-1].register_forward_hook(lambda _m, _a, output: seen.append(output))
    try:
        tower(pixels)
    finally:
        hook.remove()
    return seen[0]


def _all_states(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return _last_block(loaded, images["pixel_values"]).flatten(0, 1)


def _normed_states(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    states: torch.Tensor = loaded.model.model.vision_tower.layernorm(_last_block(loaded, images["pixel_values"]))
    return states.flatten(0, 1)


def _tiles(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return _last_block(loaded, images["pixel_values"][0])[:, 1:].flatten(0, 1)


TINY = {
    "fused_vit": Tiny(lambda: _fused(write_vit), _all_states),
    "fused_vit_layernorm": Tiny(lambda: _fused(write_vit, vision_layernorm=True), _normed_states),
    "fused_siglip": Tiny(lambda: _fused(write_siglip), _all_states),
    "fused_tiles": Tiny(lambda: _fused(write_vit, side=28, tiles=4), _tiles),
}
