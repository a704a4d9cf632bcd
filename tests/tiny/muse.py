"""A tiny Muse Glimmer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    MuseGlimmerConfig,
    MuseGlimmerForConditionalGeneration,
    MuseGlimmerImageProcessor,
    MuseGlimmerProcessor,
    MuseGlimmerVideoProcessor,
)

from halp_probe.models.loading import LoadedModel
from tiny.parts import Tiny, text_fields, tiny_tokenizer, without_zeros

# In the manner of meta-models/Muse-Glimmer-30B: Llama 4's turns.
TEMPLATE = (
    "{% for message in messages %}<|header_start|>{{ message['role'] }}<|header_end|>\n\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|patch|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|header_start|>assistant<|header_end|>\n\n{% endif %}"
)
TOKENS = ("<|header_start|>", "<|header_end|>", "<|eot|>", "<|patch|>", "<|image_start|>", "<|image_end|>")
VIDEO_TOKENS = ("<|video|>", "<|vid_frame_separator|>", "<|vid_start|>", "<|vid_end|>")


def _muse_glimmer() -> tuple[Any, Any]:
    """Windows of 4 × 4 patches in the tower; every fourth decoder block, from the last, reads all and no positions."""
    tokenizer = tiny_tokenizer(*TOKENS, *VIDEO_TOKENS)
    config = MuseGlimmerConfig(
        text_config=text_fields(tokenizer, head_dim=8, sliding_window=256),
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "pos_emb_height": 4,
            "pos_emb_width": 4,
            "max_position_embeddings": 16,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|patch|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video|>"),
        out_hidden_size=64,
        projector_hidden_size=24,
    )
    processor = MuseGlimmerProcessor(
        image_processor=MuseGlimmerImageProcessor(max_image_tokens=24),
        video_processor=MuseGlimmerVideoProcessor(),
        tokenizer=tokenizer,
        chat_template=TEMPLATE,
    )
    return without_zeros(MuseGlimmerForConditionalGeneration(config)), processor


def _patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Out of the shuffled tokens, in which four patches stand channel by channel."""
    tower = loaded.model.model.vision_tower
    tokens = tower(images["pixel_values"], grid_thw=images["image_grid_thw"]).last_hidden_state
    return tokens.unflatten(-1, (-1, 4)).transpose(1, 2).flatten(0, 1)


TINY = {"muse_glimmer": Tiny(_muse_glimmer, _patches)}
