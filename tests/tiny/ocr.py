"""Tiny readers of documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    GotOcr2ImageProcessor,
    LightOnOcrConfig,
    LightOnOcrForConditionalGeneration,
    LightOnOcrProcessor,
    PixtralImageProcessor,
    PixtralVisionConfig,
    QianfanOCRConfig,
    QianfanOCRForConditionalGeneration,
    QianfanOCRProcessor,
    Qwen3Config,
)

from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, Tiny, named_tokenizer, text_fields, without_zeros

# As lightonai/LightOnOCR-1B-1025 and baidu/Qianfan-OCR have it: ChatML; the placeholder is the family's own.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}PLACEHOLDER{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "initializer_range": INITIALIZER_RANGE,
}


def _lighton_ocr() -> tuple[Any, Any]:
    marks = {"image": "<|image_pad|>", "image_break": "<|vision_pad|>", "image_end": "<|vision_end|>"}
    tokenizer = named_tokenizer({f"{name}_token": token for name, token in marks.items()})
    config = LightOnOcrConfig(
        vision_config=PixtralVisionConfig(**VISION, head_dim=8, image_size=112, patch_size=7),
        text_config=Qwen3Config(**text_fields(tokenizer, head_dim=8)),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        spatial_merge_size=2,
        tie_word_embeddings=False,
    )
    processor = LightOnOcrProcessor(
        image_processor=PixtralImageProcessor(size={"longest_edge": 112}, patch_size={"height": 14, "width": 14}),
        tokenizer=tokenizer,
        patch_size=7,
        spatial_merge_size=2,
        chat_template=CHATML.replace("PLACEHOLDER", "<|image_pad|>"),
    )
    return without_zeros(LightOnOcrForConditionalGeneration(config)), processor


def _qianfan_ocr() -> tuple[Any, Any]:
    tokenizer = named_tokenizer(
        {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    )
    config = QianfanOCRConfig(
        vision_config={**VISION, "image_size": [56, 56], "patch_size": [14, 14]},
        text_config=Qwen3Config(**text_fields(tokenizer, head_dim=8)),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    processor = QianfanOCRProcessor(
        image_processor=GotOcr2ImageProcessor(
            size={"height": 56, "width": 56}, crop_to_patches=True, min_patches=1, max_patches=4
        ),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=CHATML.replace("PLACEHOLDER", "<image>\n"),
    )
    return without_zeros(QianfanOCRForConditionalGeneration(config)), processor


def _patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tower = loaded.model.model.vision_encoder
    return tower(images["pixel_values"], image_sizes=images["image_sizes"]).last_hidden_state[0]


def _tiles(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Tile by tile, without class tokens."""
    tower = loaded.model.model.vision_tower
    tiles = [tower(tile[None]).last_hidden_state[0, 1:] for tile in images["pixel_values"]]
    return torch.cat(tiles)


TINY = {"lighton_ocr": Tiny(_lighton_ocr, _patches), "qianfan_ocr": Tiny(_qianfan_ocr, _tiles)}
