"""Five folders of Qwen's families."""

from __future__ import annotations

from typing import Any

from real import image_settings, tokenizers
from real.folder import BEGIN, CHATML, GQA, SAMPLED, Folder

_VISION = "<|vision_start|><|image_pad|><|vision_end|>"
_SYSTEM = "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
_THINK = (
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}"
)
_QWEN_IDS = {
    "image_token_id": "@<|image_pad|>",
    "video_token_id": "@<|video_pad|>",
    "vision_start_token_id": "@<|vision_start|>",
    "vision_end_token_id": "@<|vision_end|>",
}
_FLAT_QWEN = {  # the language model's settings at the top level, as transformers 4.37 to 4.51 wrote them
    **GQA,
    **_QWEN_IDS,
    "attention_dropout": 0.0,
    "bos_token_id": "@<|endoftext|>",
    "eos_token_id": "@<|im_end|>",
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "sliding_window": 32768,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.41.2",
    "use_cache": True,
    "use_sliding_window": False,
    "vision_token_id": "@<|vision_start|>",
    "vocab_size": 152064,
}


def _qwen3(model_type: str, **text: Any) -> dict[str, Any]:
    vision = {
        "depth": 4, "hidden_size": 64, "num_heads": 2, "intermediate_size": 128, "out_hidden_size": 256,
        "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2, "deepstack_visual_indexes": [0, 1, 2],
    }  # fmt: skip
    rope = {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"}
    common = {
        **GQA, "head_dim": 128, "model_type": f"{model_type}_text", "rope_scaling": rope, "rope_theta": 5000000,
        "dtype": "bfloat16", "vocab_size": 151936,
    }  # fmt: skip
    return {
        **_QWEN_IDS, "model_type": model_type, "text_config": {**common, **text}, "vision_config": vision,
        "transformers_version": "4.57.0.dev0",
    }  # fmt: skip


QWEN: dict[str, Folder] = {
    "qwen2vl": Folder(
        words=tokenizers.QWEN,
        config={
            **_FLAT_QWEN,
            "model_type": "qwen2_vl",
            "vision_config": {"depth": 4, "embed_dim": 64, "hidden_size": 256, "num_heads": 2, "in_chans": 3,
                              "mlp_ratio": 4, "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14,
                              "temporal_patch_size": 2},
        },
        files=image_settings.QWEN2,
        generation={**SAMPLED, "repetition_penalty": 1.0, "temperature": 0.01, "top_p": 0.001, "top_k": 1},
        template=_SYSTEM + CHATML.replace("IMAGE", _VISION) + BEGIN,
    ),
    "qwen25vl": Folder(
        words=tokenizers.QWEN,
        config={
            **_FLAT_QWEN,
            "model_type": "qwen2_5_vl",
            "vision_config": {"depth": 4, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "in_chans": 3,
                              "out_hidden_size": 256, "patch_size": 14, "spatial_merge_size": 2,
                              "spatial_patch_size": 14, "temporal_patch_size": 2, "window_size": 112,
                              "tokens_per_second": 2, "fullatt_block_indexes": [1, 3]},
        },
        files=image_settings.QWEN25,
        generation={**SAMPLED, "repetition_penalty": 1.05, "temperature": 1e-06},
        template=_SYSTEM + CHATML.replace("IMAGE", _VISION) + BEGIN,
    ),
    "qwen3vl": Folder(
        words=tokenizers.QWEN,
        config=_qwen3("qwen3_vl"),
        files=image_settings.QWEN3,
        generation={**SAMPLED, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.0, "temperature": 0.7},
        template=CHATML.replace("IMAGE", _VISION) + BEGIN,
    ),
    "qwen3vlmoe": Folder(
        words=tokenizers.QWEN,
        config=_qwen3("qwen3_vl_moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=64),
        files=image_settings.QWEN3,
        generation={**SAMPLED, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.0, "temperature": 0.7},
        template=CHATML.replace("IMAGE", _VISION) + BEGIN,
    ),
    "qwen35": Folder(
        words=tokenizers.QWEN35,
        config=_qwen3(
            "qwen3_5",
            rope_scaling=None,
            rope_theta=None,
            full_attention_interval=4,
            rope_parameters={"mrope_interleaved": True, "mrope_section": [11, 11, 10], "rope_theta": 10000000,
                             "partial_rotary_factor": 0.25, "rope_type": "default"},
        ),
        files=image_settings.QWEN3,
        generation={**SAMPLED, "temperature": 1.0, "top_k": 20, "top_p": 0.95},
        template=CHATML.replace("IMAGE", _VISION) + BEGIN + _THINK,
    ),
}  # fmt: skip
