"""Tiny models with Qwen-VL's tower or positions, by other makers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    CohereCompassConfig,
    CohereCompassForConditionalGeneration,
    CohereCompassImageProcessor,
    CohereCompassProcessor,
    CohereCompassVideoProcessor,
    Cosmos3EdgeConfig,
    Cosmos3EdgeForConditionalGeneration,
    Cosmos3EdgeImageProcessor,
    Cosmos3EdgeProcessor,
    Cosmos3EdgeVideoProcessor,
    Cosmos3OmniConfig,
    Cosmos3OmniForConditionalGeneration,
    HyperCLOVAXConfig,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from halp_probe.engine.prompting import Prompt
from halp_probe.models.loading import LoadedModel
from halp_probe.shapes.model import CHAT_TEMPLATE
from tiny.parts import INITIALIZER_RANGE, Tiny, text_fields, tiny_tokenizer, without_zeros
from tiny.qwen import mrope, qwen3_tower, vision_ids

# As CohereLabs/North-Micro-Vision-Instruct has it, but for the system turn.
COMPASS_TEMPLATE = (
    "<BOS_TOKEN>{% for message in messages %}<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|VISION_START|><|IMAGE_PAD|><|VISION_END|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|END_OF_TURN_TOKEN|>{% endfor %}"
    "{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}"
)
COMPASS_TOKENS = {
    "image_token_id": "<|IMAGE_PAD|>",
    "video_token_id": "<|VIDEO_PAD|>",
    "vision_start_token_id": "<|VISION_START|>",
    "vision_end_token_id": "<|VISION_END|>",
}
_PIXELS = {"min_pixels": 64 * 64, "max_pixels": 160 * 160, "patch_size": 16, "merge_size": 2}


def _cohere_compass() -> tuple[Any, Any]:
    """Blocks whose two halves stand side by side; two of three look through a window, the third knows no positions."""
    tokenizer = tiny_tokenizer(
        "<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>",
        *COMPASS_TOKENS.values(),
    )  # fmt: skip
    rope = {**mrope(2, 1, 1), "mrope_interleaved": True}
    kinds = ["sliding_attention", "sliding_attention", "full_attention"] * 2
    text = text_fields(tokenizer, head_dim=8, sliding_window=256, layer_types=kinds, logit_scale=0.5)
    config = CohereCompassConfig(
        text_config={**text, "rope_parameters": {"sliding_attention": rope, "full_attention": None}},
        vision_config={**qwen3_tower(), "deepstack_visual_indexes": [0, 1, 2]},
        **{name: tokenizer.convert_tokens_to_ids(token) for name, token in COMPASS_TOKENS.items()},
    )
    processor = CohereCompassProcessor(
        image_processor=CohereCompassImageProcessor(**_PIXELS),
        tokenizer=tokenizer,
        video_processor=CohereCompassVideoProcessor(),
        chat_template=COMPASS_TEMPLATE,
    )
    return without_zeros(CohereCompassForConditionalGeneration(config)), processor


def _cosmos3_omni() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer()
    rope = {**mrope(2, 1, 1), "mrope_interleaved": True}
    config = Cosmos3OmniConfig(
        text_config=text_fields(tokenizer, head_dim=8, rope_parameters=rope),
        vision_config={**qwen3_tower(), "deepstack_visual_indexes": [0, 1, 2]},
        **vision_ids(tokenizer),
    )
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**_PIXELS),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )
    return Cosmos3OmniForConditionalGeneration(config), processor


def _cosmos3_edge() -> tuple[Any, Any]:
    """SigLIP 2 with a learned square of places, stretched to each picture's patches."""
    tokenizer = tiny_tokenizer()
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = Cosmos3EdgeConfig(
        text_config=text_fields(tokenizer, head_dim=8, rope_parameters=mrope(2, 1, 1)),
        vision_config={**tower, "num_patches": 36},
        projector_hidden_size=48,
        **vision_ids(tokenizer),
    )
    processor = Cosmos3EdgeProcessor(
        image_processor=Cosmos3EdgeImageProcessor(size={"shortest_edge": 64 * 64, "longest_edge": 160 * 160}),
        tokenizer=tokenizer,
        video_processor=Cosmos3EdgeVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )
    return without_zeros(Cosmos3EdgeForConditionalGeneration(config)), processor


def _hyperclovax_vision_v2() -> tuple[Any, Any]:
    """The tower of Qwen2.5-VL with its merger, and a further linear projection; plain positions."""
    from transformers import (  # later than transformers 5.17
        HyperCLOVAXVisionV2Config,
        HyperCLOVAXVisionV2ForConditionalGeneration,
        HyperCLOVAXVisionV2Processor,
    )

    tokenizer = tiny_tokenizer()
    vision = {"depth": 3, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 24}
    windows = {"window_size": 56, "fullatt_block_indexes": [1], "initializer_range": INITIALIZER_RANGE}
    multipliers = {"embedding_multiplier": 3.0, "residual_multiplier": 0.7, "attention_multiplier": 0.3}
    config = HyperCLOVAXVisionV2Config(
        text_config=HyperCLOVAXConfig(**text_fields(tokenizer, logits_scaling=0.5, **multipliers)),
        vision_config={**vision, **windows, "model_type": "qwen2_5_vl_vision"},
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
    )
    pixels = {"min_pixels": 56 * 56, "max_pixels": 140 * 140}
    processor = HyperCLOVAXVisionV2Processor(
        image_processor=Qwen2VLImageProcessor(**pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**pixels),
        chat_template=CHAT_TEMPLATE,
    )
    return without_zeros(HyperCLOVAXVisionV2ForConditionalGeneration(config)), processor


def _patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tower = loaded.model.model.visual
    return tower(images["pixel_values"], grid_thw=images["image_grid_thw"]).last_hidden_state


def _named_otherwise(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tower = loaded.model.model.vision_model
    return tower(images["pixel_values"], grid_thw=images["image_grid_thw"]).last_hidden_state


def _projected(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The decoder multiplies them by three."""
    model = loaded.model.model
    output = model.vision_model(images["pixel_values"], grid_thw=images["image_grid_thw"])
    projected: torch.Tensor = model.projector(output.pooler_output)
    return projected


def _types(loaded: LoadedModel, prompt: Prompt) -> dict[str, torch.Tensor]:
    """The processor gives them only on request, and the model's own positions need them."""
    ids = torch.from_numpy(prompt.input_ids)[None]
    return {"mm_token_type_ids": (ids == loaded.checkpoint.image_token_id).long()}


TINY = {
    "cohere_compass": Tiny(_cohere_compass, _patches, added_after=3),
    "cosmos3_omni": Tiny(_cosmos3_omni, _patches, added_after=3),
    "cosmos3_edge": Tiny(_cosmos3_edge, _patches, inputs=_types),
    "hyperclovax_vision_v2": Tiny(
        _hyperclovax_vision_v2, _named_otherwise, vision_only=_projected, later="HyperCLOVAXVisionV2Config"
    ),
}
