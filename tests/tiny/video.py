"""Tiny models made for videos, asked about pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlavaNextImageProcessor,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
    VideoLlavaConfig,
    VideoLlavaForConditionalGeneration,
    VideoLlavaImageProcessor,
    VideoLlavaProcessor,
    VideoLlavaVideoProcessor,
)

from halp_probe.models.loading import LoadedModel
from tiny.llava import LLAVA_TEMPLATE, PINPOINTS, TILE, clip
from tiny.parts import Tiny, text_fields, tiny_tokenizer


def _llava_next_video() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer("<image>", "<video>")
    config = LlavaNextVideoConfig(
        vision_config=clip(TILE),
        text_config=LlamaConfig(**text_fields(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=PINPOINTS,
    )
    processor = LlavaNextVideoProcessor(
        video_processor=LlavaNextVideoVideoProcessor(),
        image_processor=LlavaNextImageProcessor(
            size={"shortest_edge": TILE}, crop_size={"height": TILE, "width": TILE}, image_grid_pinpoints=PINPOINTS
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    return LlavaNextVideoForConditionalGeneration(config), processor


def _video_llava() -> tuple[Any, Any]:
    """Two towers, of which pictures see one."""
    tokenizer = tiny_tokenizer("<image>", "<video>")
    config = VideoLlavaConfig(
        vision_config=clip(56),
        text_config=LlamaConfig(**text_fields(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
    )
    size = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
    processor = VideoLlavaProcessor(
        image_processor=VideoLlavaImageProcessor(**size),
        video_processor=VideoLlavaVideoProcessor(**size),
        tokenizer=tokenizer,
        patch_size=14,
        chat_template=LLAVA_TEMPLATE,
    )
    return VideoLlavaForConditionalGeneration(config), processor


def _tiles(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    states = loaded.model.model.vision_tower(images["pixel_values"][0], output_hidden_states=True).hidden_states
    return states[-2][:, 1:].flatten(0, 1)


def _patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    states = loaded.model.model.image_tower(images["pixel_values_images"], output_hidden_states=True).hidden_states
    return states[-2][0, 1:]


TINY = {
    "llava_next_video": Tiny(_llava_next_video, _tiles),
    "video_llava": Tiny(_video_llava, _patches),
}
