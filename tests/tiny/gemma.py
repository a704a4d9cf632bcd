"""Tiny Gemma models that see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    Gemma2Config,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Gemma3TextConfig,
    GemmaConfig,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    SiglipImageProcessor,
)

from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, WIDTH, Tiny, gemma_tokenizer, siglip, text_fields, without_zeros

# As google/gemma-3-4b-it has it, without its system turn.
GEMMA3_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<start_of_image>{% else %}{{ part['text'] | trim }}{% endif %}"
    "{% endfor %}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# PaliGemma's checkpoints have none; its processor adds <bos> after the image and a line's end after the question.
PALIGEMMA_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}answer en {{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


def _gemma3() -> tuple[Any, Any]:
    """Two kinds of blocks, whose rotary bases differ; 36 patches are pooled into 9 image tokens."""
    images = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = gemma_tokenizer(images)
    text = Gemma3TextConfig(
        **_gemma_text(tokenizer),
        query_pre_attn_scalar=8,
        sliding_window=256,  # more than prompt and answer: padding on the right would stand in an answer's window
        layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2,
    )
    config = Gemma3Config(
        text_config=text,
        vision_config=siglip(84),
        mm_tokens_per_image=9,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
        tie_word_embeddings=False,
        initializer_range=INITIALIZER_RANGE,
    )
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size={"height": 84, "width": 84}),
        tokenizer=tokenizer,
        chat_template=GEMMA3_TEMPLATE,
        image_seq_length=9,
    )
    return without_zeros(Gemma3ForConditionalGeneration(config)), processor


def _paligemma() -> tuple[Any, Any]:
    processor = _paligemma_processor()
    return _paligemma_of(GemmaConfig(**_gemma_text(processor.tokenizer)), processor), processor


def _paligemma2() -> tuple[Any, Any]:
    """The same model type with Gemma 2 as its decoder: sliding windows, softcapped attention and logits."""
    processor = _paligemma_processor()
    text = Gemma2Config(
        **_gemma_text(processor.tokenizer),
        query_pre_attn_scalar=8,
        sliding_window=256,
        final_logit_softcapping=5.0,
        attn_logit_softcapping=5.0,
    )
    return _paligemma_of(text, processor), processor


def _paligemma_processor() -> Any:
    images = SiglipImageProcessor(size={"height": 56, "width": 56}, image_seq_length=16)
    return PaliGemmaProcessor(image_processor=images, tokenizer=gemma_tokenizer({}), chat_template=PALIGEMMA_TEMPLATE)


def _paligemma_of(text: Any, processor: Any) -> Any:
    config = PaliGemmaConfig(
        text_config=text,
        vision_config=siglip(56),
        image_token_index=processor.image_token_id,
        projection_dim=WIDTH,
        hidden_size=WIDTH,
        tie_word_embeddings=False,
    )
    return without_zeros(PaliGemmaForConditionalGeneration(config))


def _gemma_text(tokenizer: Any) -> dict[str, Any]:
    ids = {name: tokenizer.convert_tokens_to_ids(f"<{name}>") for name in ("eos", "bos", "pad")}
    return text_fields(tokenizer, head_dim=8, **{f"{name}_token_id": index for name, index in ids.items()})


def _patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return loaded.model.model.vision_tower(images["pixel_values"]).last_hidden_state[0]


TINY = {
    "gemma3": Tiny(_gemma3, _patches),
    "paligemma": Tiny(_paligemma, _patches),
    "paligemma2": Tiny(_paligemma2, _patches),
}
