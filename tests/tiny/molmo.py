"""Tiny Molmo models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, WIDTH, Tiny, text_fields, tiny_tokenizer, without_zeros

# As allenai/Molmo2-8B has it: pictures first, no system turn.
MOLMO2_TEMPLATE = (
    "{% for message in messages %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<|image|>{% endif %}{% endfor %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MOLMO2_MARKERS = (
    "<im_patch>", "<im_col>", "<im_start>", "<low_res_im_start>", "<im_end>", "<im_low>", "<frame_start>", "<frame_end>"
)  # fmt: skip


def _molmo2() -> tuple[Any, Any]:
    """Tiles of 5 × 5 patches, 3 × 3 without their overlap; of two layers of the tower, pooled 2 × 2, the last odd."""
    from transformers import (  # later than transformers 5.17
        Molmo2Config,
        Molmo2ForConditionalGeneration,
        Molmo2ImageProcessor,
        Molmo2Processor,
        Molmo2VideoProcessor,
    )

    tokenizer = tiny_tokenizer("<|image|>", "<|video|>", *MOLMO2_MARKERS)
    tower = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    ids = tokenizer.convert_tokens_to_ids
    text = text_fields(tokenizer, head_dim=8, additional_vocab_size=4)
    rope = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    config = Molmo2Config(
        text_config={**text, "rope_parameters": rope, "rope_scaling_layers": [2, 5]},
        vision_config={**tower, "intermediate_size": 32, "num_hidden_layers": 3, "image_size": [70, 70]},
        adapter_config={
            **tower,
            "intermediate_size": 48,
            "text_hidden_size": WIDTH,
            "vision_feature_layer": [2, 0],
        },
        image_start_token_id=ids("<im_start>"),
        low_res_image_start_token_id=ids("<low_res_im_start>"),
        image_end_token_id=ids("<im_end>"),
        image_patch_id=ids("<im_patch>"),
        frame_start_token_id=ids("<frame_start>"),
        frame_end_token_id=ids("<frame_end>"),
        initializer_range=INITIALIZER_RANGE,
    )
    for part in (config.vision_config, config.adapter_config):
        part.initializer_range = INITIALIZER_RANGE
    tiles = {"size": {"height": 70, "width": 70}, "max_crops": 4, "overlap_margins": [1, 1]}
    processor = Molmo2Processor(
        image_processor=Molmo2ImageProcessor(**tiles),
        video_processor=Molmo2VideoProcessor(),
        tokenizer=tokenizer,
        chat_template=MOLMO2_TEMPLATE,
    )
    return without_zeros(Molmo2ForConditionalGeneration(config)), processor


def _features(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    model = loaded.model.model
    return model.multi_modal_projector(_tower(model, images), images["image_token_pooling"]).last_hidden_state


def _pooled_patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Each patch whose index some image token pools, picked one by one."""
    states = _tower(loaded.model.model, images).flatten(0, 1)
    return torch.stack([states[index] for row in images["image_token_pooling"].tolist() for index in row if index >= 0])


def _tower(model: Any, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    states = model.vision_tower(images["pixel_values"], output_hidden_states=True).hidden_states
    return torch.cat([states[3], states[1]], dim=-1)  # after blocks 2 and 0


TINY = {"molmo2": Tiny(_molmo2, _pooled_patches, vision_only=_features, behind_image=2, later="Molmo2Config")}
