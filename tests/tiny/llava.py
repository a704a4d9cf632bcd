"""Tiny LLaVA models and their relatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, Tiny, text_fields, tiny_tokenizer

LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper }}: "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


def _llava() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer("<image>")
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        initializer_range=INITIALIZER_RANGE,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**text_fields(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    return LlavaForConditionalGeneration(config), processor


def _patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    states = loaded.model.model.vision_tower(images["pixel_values"], output_hidden_states=True).hidden_states
    return states[-2][0, 1:]


TINY = {"llava": Tiny(_llava, _patches)}
