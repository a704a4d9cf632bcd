"""Tiny Qwen-VL models and their relatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    Exaone4_5_Config,
    Exaone4_5_ForConditionalGeneration,
    Exaone4_5_Processor,
    Exaone4Config,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    Qwen4ExpConfig,
    Qwen4ExpForConditionalGeneration,
)

from halp_probe.models.loading import LoadedModel
from halp_probe.shapes.model import CHAT_TEMPLATE
from tiny.parts import INITIALIZER_RANGE, WIDTH, Tiny, text_fields, tiny_tokenizer, without_zeros

# As Qwen/Qwen3.5-9B has it: no system turn, and the answer begins inside the model's thinking.
QWEN3_5_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


def mrope(*section: int) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": list(section)}


def vision_ids(tokenizer: Any) -> dict[str, int]:
    ids = tokenizer.convert_tokens_to_ids
    return {
        "image_token_id": ids("<|image_pad|>"),
        "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids("<|vision_start|>"),
        "vision_end_token_id": ids("<|vision_end|>"),
    }


def _qwen2_vl() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer()
    vision = {"depth": 2, "embed_dim": 16, "hidden_size": WIDTH, "num_heads": 2, "mlp_ratio": 2}
    config = Qwen2VLConfig(
        text_config=text_fields(tokenizer, rope_parameters=mrope(1, 1, 2)),
        vision_config={**vision, "initializer_range": INITIALIZER_RANGE},
        **vision_ids(tokenizer),
    )
    processor = Qwen2VLProcessor(**_qwen_parts(tokenizer), chat_template=CHAT_TEMPLATE)
    return Qwen2VLForConditionalGeneration(config), processor


def _qwen2_5_vl() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer()
    vision = {"depth": 3, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": WIDTH}
    config = Qwen2_5_VLConfig(
        text_config=text_fields(tokenizer, rope_parameters=mrope(1, 1, 2)),
        vision_config={
            **vision,
            "window_size": 56,
            "fullatt_block_indexes": [1],
            "initializer_range": INITIALIZER_RANGE,
        },
        **vision_ids(tokenizer),
    )
    processor = Qwen2_5_VLProcessor(**_qwen_parts(tokenizer), chat_template=CHAT_TEMPLATE)
    return Qwen2_5_VLForConditionalGeneration(config), processor


def _qwen3_vl() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer()
    config = Qwen3VLConfig(**_qwen3_vl_fields(tokenizer))
    return Qwen3VLForConditionalGeneration(config), _qwen3_vl_processor(tokenizer)


def _qwen3_vl_moe() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer()
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    config = Qwen3VLMoeConfig(**_qwen3_vl_fields(tokenizer, **experts))
    return Qwen3VLMoeForConditionalGeneration(config), _qwen3_vl_processor(tokenizer)


def _qwen3_5() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer()
    config = Qwen3_5Config(**_qwen3_5_fields(tokenizer))
    return without_zeros(Qwen3_5ForConditionalGeneration(config)), _qwen3_vl_processor(tokenizer, QWEN3_5_TEMPLATE)


def _qwen3_5_moe() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer()
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    fields = _qwen3_5_fields(tokenizer, **experts, shared_expert_intermediate_size=16)
    del fields["text_config"]["intermediate_size"]
    config = Qwen3_5MoeConfig(**fields)
    return without_zeros(Qwen3_5MoeForConditionalGeneration(config)), _qwen3_vl_processor(tokenizer, QWEN3_5_TEMPLATE)


def _qwen4_exp() -> tuple[Any, Any]:
    """Three residual streams, n-grams in two blocks; the block that is not recurrent reads five groups of tokens."""
    tokenizer = tiny_tokenizer()
    experts = {"num_experts": 2, "num_experts_per_tok": 2, "moe_intermediate_size": 24}  # bfloat16 chooses no others
    kinds = [*["linear_attention"] * 4, "full_attention", "linear_attention"]
    streams = {"hc_count": 3, "hc_lowrank": 8, "shared_expert_intermediate_size": 16}
    ngrams = {"ple_layer_ids": [1], "heads_per_ngram": 2, "ngram_vocab_size_base": 97, "split_ngram_parts": 1}
    indexer = {"n_heads": 8, "kv_heads": 1, "head_dim": 8, "budget": 20, "compress_ratio": 4}
    text = qwen3_5_text_fields(tokenizer, **experts, **streams, **ngrams)
    del text["intermediate_size"]
    config = Qwen4ExpConfig(
        text_config={**text, "layer_types": kinds, **{f"indexer_{name}": value for name, value in indexer.items()}},
        vision_config=qwen3_tower(),
        **vision_ids(tokenizer),
    )
    return without_zeros(Qwen4ExpForConditionalGeneration(config)), _qwen3_vl_processor(tokenizer, QWEN3_5_TEMPLATE)


def _qwen3_5_fields(tokenizer: Any, **more: Any) -> dict[str, Any]:
    return {
        "text_config": qwen3_5_text_fields(tokenizer, **more),
        "vision_config": qwen3_tower(),
        **vision_ids(tokenizer),
    }


def qwen3_5_text_fields(tokenizer: Any, **more: Any) -> dict[str, Any]:
    """Two blocks of the six attend to all tokens, the others are recurrent; three quarters of a head are rotated."""
    rope = {**mrope(1, 1, 1), "mrope_interleaved": True, "partial_rotary_factor": 0.75}
    recurrent = {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
    widths = {"head_dim": 8, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
    kinds = ["linear_attention", "linear_attention", "full_attention"] * 2
    return text_fields(tokenizer, rope_parameters=rope, layer_types=kinds, **recurrent, **widths, **more)


def _qwen3_vl_fields(tokenizer: Any, **more: Any) -> dict[str, Any]:
    rope = {**mrope(2, 1, 1), "mrope_interleaved": True}
    return {
        "text_config": text_fields(tokenizer, head_dim=8, rope_parameters=rope, **more),
        "vision_config": {**qwen3_tower(), "deepstack_visual_indexes": [0, 1, 2]},
        **vision_ids(tokenizer),
    }


def qwen3_tower() -> dict[str, Any]:
    return {
        "depth": 4,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
        "patch_size": 16,
        "num_position_embeddings": 64,
        "initializer_range": INITIALIZER_RANGE,
    }


def _qwen3_vl_processor(tokenizer: Any, template: str = CHAT_TEMPLATE) -> Any:
    pixels = {"min_pixels": 64 * 64, "max_pixels": 160 * 160, "patch_size": 16, "merge_size": 2}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**pixels),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=template,
    )


def _exaone4_5() -> tuple[Any, Any]:
    """As Qwen2.5-VL, with shared keys in the tower; four decoder blocks attend within a window."""
    tokenizer = tiny_tokenizer()
    vision = {"depth": 3, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "num_key_value_heads": 1}
    windows = {"out_hidden_size": WIDTH, "window_size": 56, "fullatt_block_indexes": [1]}
    kinds = ["sliding_attention", "sliding_attention", "full_attention"] * 2
    config = Exaone4_5_Config(
        text_config=Exaone4Config(**text_fields(tokenizer, sliding_window=256, layer_types=kinds)),
        vision_config={**vision, **windows, "initializer_range": INITIALIZER_RANGE},
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
    )
    processor = Exaone4_5_Processor(**_qwen_parts(tokenizer), chat_template=CHAT_TEMPLATE)
    return Exaone4_5_ForConditionalGeneration(config), processor


def _qwen_parts(tokenizer: Any) -> dict[str, Any]:
    pixels = {"min_pixels": 56 * 56, "max_pixels": 140 * 140}
    return {
        "image_processor": Qwen2VLImageProcessor(**pixels),
        "tokenizer": tokenizer,
        "video_processor": Qwen2VLVideoProcessor(**pixels),
    }


def _patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tower = loaded.model.model.visual
    return tower(images["pixel_values"], grid_thw=images["image_grid_thw"]).last_hidden_state


def _merged(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The first block reads them several times side by side."""
    merged: torch.Tensor = loaded.model.model.visual(
        images["pixel_values"], grid_thw=images["image_grid_thw"]
    ).pooler_output
    return merged


TINY = {
    "qwen2_vl": Tiny(_qwen2_vl, _patches),
    "qwen2_5_vl": Tiny(_qwen2_5_vl, _patches),
    "qwen3_vl": Tiny(_qwen3_vl, _patches, added_after=3),
    "qwen3_vl_moe": Tiny(_qwen3_vl_moe, _patches, added_after=3),
    "qwen3_5": Tiny(_qwen3_5, _patches),
    "qwen3_5_moe": Tiny(_qwen3_5_moe, _patches),
    "qwen4_exp": Tiny(_qwen4_exp, _patches, vision_only=_merged),
    "exaone4_5": Tiny(_exaone4_5, _patches),
}
