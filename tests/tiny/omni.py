"""Tiny models that also hear and speak: the part that reads and answers in text (the thinker)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3OmniMoeProcessor,
    Qwen3OmniMoeThinkerConfig,
    Qwen3OmniMoeThinkerForConditionalGeneration,
    WhisperFeatureExtractor,
)

from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, WIDTH, Tiny, named_tokenizer, text_fields, without_zeros
from tiny.qwen import mrope, qwen3_tower

# As Qwen/Qwen2.5-Omni-7B has it, but for the system turn and for sounds.
OMNI_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_bos|><|IMAGE|><|vision_eos|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TOKENS = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
_AUDIO = {
    "num_mel_bins": 8,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "d_model": 16,
    "output_dim": WIDTH,
}


def _qwen2_5_omni() -> tuple[Any, Any]:
    tokenizer = named_tokenizer(_TOKENS)
    vision = {"depth": 3, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": WIDTH}
    windows = {"window_size": 56, "fullatt_block_indexes": [1], "initializer_range": INITIALIZER_RANGE}
    config = Qwen2_5OmniThinkerConfig(
        text_config=text_fields(tokenizer, rope_parameters=mrope(1, 1, 2)),
        vision_config={**vision, **windows},
        audio_config=_AUDIO,
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        audio_token_index=tokenizer.audio_token_id,
        vision_start_token_id=tokenizer.vision_bos_token_id,
        vision_end_token_id=tokenizer.vision_eos_token_id,
        audio_start_token_id=tokenizer.audio_bos_token_id,
        audio_end_token_id=tokenizer.audio_eos_token_id,
    )
    pixels = {"min_pixels": 56 * 56, "max_pixels": 140 * 140}
    return Qwen2_5OmniThinkerForConditionalGeneration(config), _processor(Qwen2_5OmniProcessor, tokenizer, pixels)


def _qwen3_omni_moe() -> tuple[Any, Any]:
    tokenizer = named_tokenizer(_TOKENS)
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    rope = {**mrope(2, 1, 1), "mrope_interleaved": True}
    config = Qwen3OmniMoeThinkerConfig(
        text_config=text_fields(tokenizer, head_dim=8, rope_parameters=rope, **experts),
        vision_config={**qwen3_tower(), "deepstack_visual_indexes": [0, 1, 2]},
        audio_config={**_AUDIO, "downsample_hidden_size": 8},
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        audio_token_id=tokenizer.audio_token_id,
        vision_start_token_id=tokenizer.vision_bos_token_id,
        vision_end_token_id=tokenizer.vision_eos_token_id,
        audio_start_token_id=tokenizer.audio_bos_token_id,
        audio_end_token_id=tokenizer.audio_eos_token_id,
    )
    pixels = {"min_pixels": 64 * 64, "max_pixels": 160 * 160, "patch_size": 16}
    model = without_zeros(Qwen3OmniMoeThinkerForConditionalGeneration(config))
    return model, _processor(Qwen3OmniMoeProcessor, tokenizer, pixels)


def _processor(kind: Any, tokenizer: Any, pixels: dict[str, int]) -> Any:
    return kind(
        image_processor=Qwen2VLImageProcessor(**pixels),
        video_processor=Qwen2VLVideoProcessor(**pixels),
        feature_extractor=WhisperFeatureExtractor(feature_size=8),
        tokenizer=tokenizer,
        chat_template=OMNI_TEMPLATE,
    )


def _patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tower = loaded.model.model.visual
    return tower(images["pixel_values"], grid_thw=images["image_grid_thw"]).last_hidden_state


TINY = {
    "qwen2_5_omni_thinker": Tiny(_qwen2_5_omni, _patches, later="Qwen2_5OmniThinkerModel"),
    "qwen3_omni_moe_thinker": Tiny(_qwen3_omni_moe, _patches, added_after=3, later="Qwen3OmniMoeThinkerModel"),
}
