"""Tiny LLaVA models and their relatives: one picture a tower call, or pictures in tiles and an overview."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    Granite4VisionConfig,
    Granite4VisionForConditionalGeneration,
    Granite4VisionProcessor,
    Granite4VisionTextConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    MistralConfig,
    Qwen2Config,
    VipLlavaConfig,
    VipLlavaForConditionalGeneration,
)

from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, Tiny, siglip, text_fields, tiny_tokenizer, without_zeros

LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper }}: "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
LLAVA_NEXT_TEMPLATE = (  # as llava-hf/llava-v1.6-mistral-7b-hf has it
    "{% for message in messages %}[INST] {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %} [/INST]{% endfor %}"
)
CHAT_TEMPLATE = (  # as llava-hf/llava-onevision-qwen2-7b-ov-hf has it
    "{% for message in messages %}<|im_start|>{{ message['role'] }} {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}\n{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TILE = 28  # pixels; with patches of 14, four patches a tile
PINPOINTS = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]  # height, width of the canvases that are cut into tiles


def _llava() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer("<image>")
    config = LlavaConfig(
        vision_config=clip(56),
        text_config=LlamaConfig(**text_fields(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    return LlavaForConditionalGeneration(config), _llava_processor(tokenizer)


def _vipllava() -> tuple[Any, Any]:
    """What several blocks say of a patch stands side by side before the projector."""
    tokenizer = tiny_tokenizer("<image>")
    config = VipLlavaConfig(
        vision_config=clip(56),
        text_config=LlamaConfig(**text_fields(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=[-1, -2, 1],
    )
    return VipLlavaForConditionalGeneration(config), _llava_processor(tokenizer)


def _llava_processor(tokenizer: Any) -> Any:
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )


def _llava_next() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer("<image>")
    text = MistralConfig(**text_fields(tokenizer), sliding_window=None)
    return _llava_next_of(tokenizer, text, clip(TILE), vision_feature_layer=-2)


def _granite_vision() -> tuple[Any, Any]:
    """The same model type with SigLIP, which has no class token, and several blocks' states side by side."""
    tokenizer = tiny_tokenizer("<image>")
    text = LlamaConfig(**text_fields(tokenizer))
    return _llava_next_of(
        tokenizer, text, siglip(TILE), vision_feature_layer=[1, -1], vision_feature_select_strategy="full"
    )


def _llava_next_of(tokenizer: Any, text: Any, vision: Any, **chosen: Any) -> tuple[Any, Any]:
    config = LlavaNextConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=PINPOINTS,
        **chosen,
    )
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessor(
            size={"shortest_edge": TILE}, crop_size={"height": TILE, "width": TILE}, image_grid_pinpoints=PINPOINTS
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=int(config.vision_feature_select_strategy == "default"),
        chat_template=LLAVA_NEXT_TEMPLATE,
    )
    return LlavaNextForConditionalGeneration(config), processor


def _llava_onevision() -> tuple[Any, Any]:
    """A canvas of more tokens than its limit allows is shrunk: here those of two tiles and more."""
    tokenizer = tiny_tokenizer("<image>", "<video>")
    config = LlavaOnevisionConfig(
        vision_config=siglip(TILE),
        text_config=Qwen2Config(**text_fields(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=PINPOINTS,
        vision_aspect_ratio="anyres_max_2",
    )
    size = {"height": TILE, "width": TILE}
    processor = LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=PINPOINTS),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_2",
        chat_template=CHAT_TEMPLATE,
    )
    return LlavaOnevisionForConditionalGeneration(config), processor


def _granite4_vision() -> tuple[Any, Any]:
    """Features are added to the image tokens in front of six blocks; sixteen patches a tile become four tokens."""
    tokenizer = tiny_tokenizer("<image>")
    text = Granite4VisionTextConfig(
        **text_fields(tokenizer),
        embedding_multiplier=3.0,
        logits_scaling=2.0,
        residual_multiplier=0.7,
        attention_multiplier=0.3,
    )
    vision = siglip(TILE)
    vision.patch_size, vision.hidden_size = 7, 64  # the Q-Former's heads are 64 wide
    config = Granite4VisionConfig(
        vision_config=vision,
        text_config=text,
        qformer_config={"num_hidden_layers": 1, "intermediate_size": 32, "cross_attention_frequency": 1},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=PINPOINTS,
        vision_feature_select_strategy="full",
        downsample_rate="1/2",
        deepstack_layer_map=[[1, 3], [-1, 0]],
        spatial_target_layers=[1, 2, 4, 5],
    )
    processor = Granite4VisionProcessor(
        image_processor=LlavaNextImageProcessor(
            size={"shortest_edge": TILE}, crop_size={"height": TILE, "width": TILE}, image_grid_pinpoints=PINPOINTS
        ),
        tokenizer=tokenizer,
        patch_size=7,
        vision_feature_select_strategy="full",
        downsample_rate="1/2",
        chat_template=CHAT_TEMPLATE,
    )
    return without_zeros(Granite4VisionForConditionalGeneration(config)), processor


def clip(image_size: int) -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=image_size,
        patch_size=14,
        initializer_range=INITIALIZER_RANGE,
    )


def _patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return _blocks(loaded, images["pixel_values"])[-2][0, 1:]


def _side_by_side(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    states = _blocks(loaded, images["pixel_values"])
    return torch.cat([states[3][0, 1:], states[2][0, 1:], states[1][0, 1:]], dim=-1)


def _tiles(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return _blocks(loaded, images["pixel_values"][0])[-2][:, 1:].flatten(0, 1)


def _tiles_side_by_side(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    states = _blocks(loaded, images["pixel_values"][0])
    return torch.cat([states[1], states[-1]], dim=-1).flatten(0, 1)


def _last_of_tiles(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return _blocks(loaded, images["pixel_values"][0])[-1].flatten(0, 1)


def _blocks(loaded: LoadedModel, pixels: torch.Tensor) -> Any:
    return loaded.model.model.vision_tower(pixels, output_hidden_states=True).hidden_states


TINY = {
    "llava": Tiny(_llava, _patches),
    "vipllava": Tiny(_vipllava, _side_by_side),
    "llava_next": Tiny(_llava_next, _tiles),
    "granite_vision": Tiny(_granite_vision, _tiles_side_by_side),
    "llava_onevision": Tiny(_llava_onevision, _last_of_tiles),
    "granite4_vision": Tiny(_granite4_vision, _last_of_tiles),
}
