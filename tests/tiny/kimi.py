"""A tiny Kimi."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    DeepseekV3Config,
    Kimi_K25Config,
    Kimi_K25ForConditionalGeneration,
    Kimi_K25ImageProcessor,
    Kimi_K25Processor,
    Kimi_K25VideoProcessor,
)

from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, Tiny, text_fields, tiny_tokenizer, without_zeros

# As moonshotai/Kimi-K2.6 has it, without thinking and tools.
KIMI_TEMPLATE = (
    "{% for message in messages %}<|im_user|>{{ message['role'] }}<|im_middle|>"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|media_begin|>image<|media_content|>IMAGE<|media_end|>\n"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_assistant|>assistant<|im_middle|>{% endif %}"
)
KIMI_IMAGE, KIMI_VIDEO = "<|media_pad|>", "<|kimi_k25_video_placeholder|>"
KIMI_MARKERS = ("<|im_user|>", "<|im_assistant|>", "<|im_middle|>", "<|media_begin|>", "<|media_content|>")


def _kimi_k25() -> tuple[Any, Any]:
    """Compressed keys and values; experts from the second block on."""
    tokenizer = tiny_tokenizer(*KIMI_MARKERS, "<|media_end|>", KIMI_IMAGE, KIMI_VIDEO)
    tokenizer.image_token, tokenizer.video_token = KIMI_IMAGE, KIMI_VIDEO
    ids = tokenizer.convert_tokens_to_ids
    text = DeepseekV3Config(
        **{**text_fields(tokenizer), "num_key_value_heads": 4},
        moe_intermediate_size=16,
        n_routed_experts=2,
        num_experts_per_tok=2,  # all of them: bfloat16's rounding would choose others
        n_group=1,
        topk_group=1,
        first_k_dense_replace=1,
        kv_lora_rank=16,
        q_lora_rank=16,
        qk_rope_head_dim=4,
        qk_nope_head_dim=4,
        v_head_dim=8,
    )
    config = Kimi_K25Config(
        text_config=text,
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "pos_emb_height": 8,
            "pos_emb_width": 8,
        },
        projection_hidden_size=16,
        image_token_id=ids(KIMI_IMAGE),
        video_token_id=ids(KIMI_VIDEO),
        vision_start_token_id=ids("<|media_begin|>"),
        vision_end_token_id=ids("<|media_end|>"),
        tie_word_embeddings=False,
        initializer_range=INITIALIZER_RANGE,
    )
    processor = Kimi_K25Processor(
        image_processor=Kimi_K25ImageProcessor(max_patches=64),
        tokenizer=tokenizer,
        video_processor=Kimi_K25VideoProcessor(),
        chat_template=KIMI_TEMPLATE.replace("IMAGE", KIMI_IMAGE),
    )
    return without_zeros(Kimi_K25ForConditionalGeneration(config)), processor


def _patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tower = loaded.model.model.vision_tower
    return tower(images["pixel_values"], grid_thw=images["image_grid_thw"]).last_hidden_state


TINY = {"kimi_k25": Tiny(_kimi_k25, _patches)}
