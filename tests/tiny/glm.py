"""Tiny GLM models that see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vImageProcessor,
    Glm4vMoeConfig,
    Glm4vMoeForConditionalGeneration,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    Glm46VConfig,
    Glm46VForConditionalGeneration,
    Glm46VImageProcessor,
    Glm46VProcessor,
    Glm46VVideoProcessor,
)

from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, WIDTH, Tiny, text_fields, tiny_tokenizer

# As zai-org/GLM-4.1V-9B-Thinking has it.
GLM_TEMPLATE = (
    "[gMASK]<sop>\n{% for message in messages %}<|{{ message['role'] }}|>\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|begin_of_image|><|image|><|end_of_image|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_MARKS = tuple(f"<|{name}|>" for name in ("image", "video", "user", "assistant")) + ("[gMASK]", "<sop>")
_ENDS = tuple(f"<|{end}_of_{kind}|>" for kind in ("image", "video") for end in ("begin", "end"))
_PIXELS = {"size": {"shortest_edge": 2 * 56 * 56, "longest_edge": 2 * 140 * 140}}  # twice: a picture is two frames


def _glm4v() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer(*_MARKS, *_ENDS)
    config = Glm4vConfig(**_fields(tokenizer))
    return Glm4vForConditionalGeneration(config), _processor(tokenizer)


def _glm46v() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer(*_MARKS, *_ENDS)
    config = Glm46VConfig(**_fields(tokenizer))
    processor = Glm46VProcessor(
        image_processor=Glm46VImageProcessor(**_PIXELS),
        tokenizer=tokenizer,
        video_processor=Glm46VVideoProcessor(),
        chat_template=GLM_TEMPLATE,
    )
    return Glm46VForConditionalGeneration(config), processor


def _glm4v_moe() -> tuple[Any, Any]:
    """A block with one network for all tokens, then five with experts of which one is shared."""
    tokenizer = tiny_tokenizer(*_MARKS, *_ENDS)
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 1}
    config = Glm4vMoeConfig(**_fields(tokenizer, head_dim=8, **experts))
    return Glm4vMoeForConditionalGeneration(config), _processor(tokenizer)


def _fields(tokenizer: Any, **more: Any) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.75, "mrope_section": [1, 1, 1]}
    ids = tokenizer.convert_tokens_to_ids
    return {
        "text_config": text_fields(tokenizer, rope_parameters=rope, **more),
        "vision_config": {
            "depth": 3,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
            "image_size": 112,
            "initializer_range": INITIALIZER_RANGE,
        },
        "image_token_id": ids("<|image|>"),
        "video_token_id": ids("<|video|>"),
        "image_start_token_id": ids("<|begin_of_image|>"),
        "image_end_token_id": ids("<|end_of_image|>"),
        "video_start_token_id": ids("<|begin_of_video|>"),
        "video_end_token_id": ids("<|end_of_video|>"),
    }


def _processor(tokenizer: Any) -> Any:
    return Glm4vProcessor(
        image_processor=Glm4vImageProcessor(**_PIXELS),
        tokenizer=tokenizer,
        video_processor=Glm4vVideoProcessor(),
        chat_template=GLM_TEMPLATE,
    )


def _patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tower, blocks = loaded.model.model.visual, []
    hook = tower.blocks[-1].register_forward_hook(lambda _module, _args, output: blocks.append(output))
    tower(images["pixel_values"], images["image_grid_thw"])
    hook.remove()
    return tower.post_layernorm(blocks[0])


TINY = {
    "glm4v": Tiny(_glm4v, _patches),
    "glm46v": Tiny(_glm46v, _patches),
    "glm4v_moe": Tiny(_glm4v_moe, _patches),
}
