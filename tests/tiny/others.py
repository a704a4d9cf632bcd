"""Tiny models of families that stand for themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    Lfm2Config,
    Lfm2VlConfig,
    Lfm2VlForConditionalGeneration,
    Lfm2VlImageProcessor,
    Lfm2VlProcessor,
    Ovis2Config,
    Ovis2ForConditionalGeneration,
    Ovis2ImageProcessor,
    Ovis2Processor,
    Ovis2VisionConfig,
    Qwen2Config,
    Siglip2VisionConfig,
)

from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, WIDTH, Tiny, text_fields, tiny_tokenizer

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{{ after }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "patch_size": 14,
    "initializer_range": INITIALIZER_RANGE,
}


def _lfm2_vl() -> tuple[Any, Any]:
    """Attention in two of six blocks; a wide picture becomes tiles and a thumbnail, each with another number of patches."""
    places = [f"<|img_row_{row}_col_{column}|>" for row in range(1, 5) for column in range(1, 5)]
    tokenizer = tiny_tokenizer("<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>", *places)
    text = Lfm2Config(
        **text_fields(tokenizer),
        block_auto_adjust_ff_dim=False,
        layer_types=["conv", "conv", "full_attention"] * 2,
    )
    config = Lfm2VlConfig(
        text_config=text,
        vision_config=Siglip2VisionConfig(**VISION, num_patches=16, vision_use_head=False),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        projector_hidden_size=48,
    )
    images = Lfm2VlImageProcessor(
        encoder_patch_size=14, tile_size=56, min_image_tokens=4, max_image_tokens=9, max_tiles=4
    )
    processor = Lfm2VlProcessor(images, tokenizer, chat_template=CHATML)
    return Lfm2VlForConditionalGeneration(config), processor


def _ovis2() -> tuple[Any, Any]:
    """A vocabulary of 40 visual words, the last five of them marks; four patches become one image token."""
    marks = [f"<IMG_{mark}>" for mark in ("START", "GRID", "COL", "ROW", "END")]
    tokenizer = tiny_tokenizer("<image>", "<IMG_ATOM>", *marks)
    config = Ovis2Config(
        text_config=Qwen2Config(**text_fields(tokenizer)),
        vision_config=Ovis2VisionConfig(**VISION, image_size=56, hidden_stride=2, vocab_size=40),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_ATOM>"),
        visual_indicator_token_ids=tokenizer.convert_tokens_to_ids(marks),
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        initializer_range=INITIALIZER_RANGE,
    )
    images = Ovis2ImageProcessor(size={"height": 56, "width": 56}, crop_to_patches=True, max_patches=4)
    processor = Ovis2Processor(
        images, tokenizer, chat_template=CHATML.replace("{{ after }}", "\n"), image_seq_length=4
    )
    return Ovis2ForConditionalGeneration(config), processor


def _naflex(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Each tile by itself, without its padding."""
    tower, states = loaded.model.model.vision_tower, []
    for pixels, shape in zip(images["pixel_values"], images["spatial_shapes"], strict=True):
        patches = int(shape.prod())
        ones = torch.ones(1, patches, dtype=torch.int64)
        states.append(tower(pixels[None, :patches], pixel_attention_mask=ones, spatial_shapes=shape[None]))
    return torch.cat([state.last_hidden_state[0] for state in states])


def _ovis2_patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return loaded.model.model.vision_tower.transformer(images["pixel_values"]).last_hidden_state.flatten(0, 1)


TINY = {
    "lfm2_vl": Tiny(_lfm2_vl, _naflex),
    "ovis2": Tiny(_ovis2, _ovis2_patches),
}
