"""A tiny FastVLM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    CLIPImageProcessor,
    FastVlmConfig,
    FastVlmForConditionalGeneration,
    LlavaProcessor,
    Qwen2Config,
    TimmWrapperConfig,
)

from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, Tiny, text_fields, tiny_tokenizer, without_zeros

# As KamilaMila/FastVLM-7B has it.
FAST_VLM_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _fast_vlm() -> tuple[Any, Any]:
    """FastViT's five stages with one block each: 192 × 192 pixels become a map of 3 × 3."""
    tokenizer = tiny_tokenizer("<image>")
    vision = TimmWrapperConfig(
        architecture="fastvit_mci3",
        do_pooling=True,
        global_pool="avg",
        hidden_size=64,
        initializer_range=INITIALIZER_RANGE,
        model_args={
            "inference_mode": True,
            "layers": (1, 1, 1, 1, 1),
            "embed_dims": (8, 8, 16, 32, 32),
            "layer_scale_init_value": 0.5,
        },
    )
    config = FastVlmConfig(
        vision_config=vision,
        text_config=Qwen2Config(**text_fields(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": 192},
            crop_size={"height": 192, "width": 192},
            image_mean=[0.0, 0.0, 0.0],
            image_std=[1.0, 1.0, 1.0],
        ),
        tokenizer=tokenizer,
        patch_size=64,
        vision_feature_select_strategy="full",
        chat_template=FAST_VLM_TEMPLATE,
    )
    return without_zeros(FastVlmForConditionalGeneration(config)), processor


def _cells(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Of the feature map of timm's own model, row by row."""
    width_first = loaded.model.model.vision_tower.timm_model.forward_features(images["pixel_values"])[0]  # [V, 3, 3]
    return torch.stack([width_first[:, row, column] for row in range(3) for column in range(3)])


TINY = {"fast_vlm": Tiny(_fast_vlm, _cells)}
