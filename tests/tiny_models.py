"""Tiny random VLMs from configs alone, with real processors: one factory for every family under test."""

from __future__ import annotations

import functools
from typing import Any

import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    Gemma2Config,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaTokenizer,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SiglipImageProcessor,
    SiglipVisionConfig,
)

from halp_probe.models.families import family_of
from halp_probe.models.loading import Checkpoint, LoadedModel
from halp_probe.shapes.model import CHAT_TEMPLATE, build_tokenizer

WIDTH = 32
LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper }}: "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
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
_INITIALIZER_RANGE = 0.2  # wide enough that one wrong index shows in every number


def tiny_model(name: str) -> LoadedModel:
    """A seeded float32 model of this family, five or six blocks of width 32."""
    torch.manual_seed(7)
    model, processor = _BUILDERS[name]()
    name, family = f"tiny-{name}", family_of(model.config.model_type)
    return LoadedModel(Checkpoint(name, name, "random", model.config, processor, family), model.eval())


@functools.cache
def _tokenizer_files() -> Any:
    return build_tokenizer()


def _tokenizer(*extra: str) -> Any:
    from transformers import Qwen2Tokenizer

    known = _tokenizer_files()
    return Qwen2Tokenizer(
        vocab=known._vocab,
        merges=known._merges,
        extra_special_tokens=[*known.extra_special_tokens, *extra],
    )


def _text(tokenizer: Any, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": _INITIALIZER_RANGE,
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "bos_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        **more,
    }


def _mrope(*section: int) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": list(section)}


def _vision_ids(tokenizer: Any) -> dict[str, int]:
    ids = tokenizer.convert_tokens_to_ids
    return {
        "image_token_id": ids("<|image_pad|>"),
        "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids("<|vision_start|>"),
        "vision_end_token_id": ids("<|vision_end|>"),
    }


def _qwen2_vl() -> tuple[Any, Any]:
    tokenizer = _tokenizer()
    vision = {"depth": 2, "embed_dim": 16, "hidden_size": WIDTH, "num_heads": 2, "mlp_ratio": 2}
    config = Qwen2VLConfig(
        text_config=_text(tokenizer, rope_parameters=_mrope(1, 1, 2)),
        vision_config={**vision, "initializer_range": _INITIALIZER_RANGE},
        **_vision_ids(tokenizer),
    )
    processor = Qwen2VLProcessor(**_qwen_parts(tokenizer), chat_template=CHAT_TEMPLATE)
    return Qwen2VLForConditionalGeneration(config), processor


def _qwen2_5_vl() -> tuple[Any, Any]:
    tokenizer = _tokenizer()
    vision = {"depth": 3, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": WIDTH}
    config = Qwen2_5_VLConfig(
        text_config=_text(tokenizer, rope_parameters=_mrope(1, 1, 2)),
        vision_config={
            **vision,
            "window_size": 56,
            "fullatt_block_indexes": [1],
            "initializer_range": _INITIALIZER_RANGE,
        },
        **_vision_ids(tokenizer),
    )
    processor = Qwen2_5_VLProcessor(**_qwen_parts(tokenizer), chat_template=CHAT_TEMPLATE)
    return Qwen2_5_VLForConditionalGeneration(config), processor


def _qwen3_vl() -> tuple[Any, Any]:
    tokenizer = _tokenizer()
    vision = {"depth": 4, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": WIDTH}
    config = Qwen3VLConfig(
        text_config=_text(tokenizer, head_dim=8, rope_parameters={**_mrope(2, 1, 1), "mrope_interleaved": True}),
        vision_config={
            **vision,
            "patch_size": 16,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1, 2],
            "initializer_range": _INITIALIZER_RANGE,
        },
        **_vision_ids(tokenizer),
    )
    pixels = {"min_pixels": 64 * 64, "max_pixels": 160 * 160, "patch_size": 16, "merge_size": 2}
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**pixels),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )
    return Qwen3VLForConditionalGeneration(config), processor


def _llava() -> tuple[Any, Any]:
    tokenizer = _tokenizer("<image>")
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        initializer_range=_INITIALIZER_RANGE,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**_text(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    return LlavaForConditionalGeneration(config), processor


def _gemma3() -> tuple[Any, Any]:
    """Two kinds of blocks, whose rotary bases differ; 36 patches are pooled into 9 image tokens."""
    images = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = _gemma_tokenizer(images)
    text = Gemma3TextConfig(
        **_gemma_text(tokenizer),
        query_pre_attn_scalar=8,
        sliding_window=256,  # more than prompt and answer: padding on the right would stand in an answer's window
        layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2,
    )
    config = Gemma3Config(
        text_config=text,
        vision_config=_siglip(84),
        mm_tokens_per_image=9,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
        tie_word_embeddings=False,
        initializer_range=_INITIALIZER_RANGE,
    )
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size={"height": 84, "width": 84}),
        tokenizer=tokenizer,
        chat_template=GEMMA3_TEMPLATE,
        image_seq_length=9,
    )
    return _without_zeros(Gemma3ForConditionalGeneration(config)), processor


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
    return PaliGemmaProcessor(image_processor=images, tokenizer=_gemma_tokenizer({}), chat_template=PALIGEMMA_TEMPLATE)


def _paligemma_of(text: Any, processor: Any) -> Any:
    config = PaliGemmaConfig(
        text_config=text,
        vision_config=_siglip(56),
        image_token_index=processor.image_token_id,
        projection_dim=WIDTH,
        hidden_size=WIDTH,
        tie_word_embeddings=False,
    )
    return _without_zeros(PaliGemmaForConditionalGeneration(config))


def _gemma_tokenizer(image_tokens: dict[str, str]) -> Any:
    """Gemma's own class with the tiny tokenizer's words: spaces as ▁, other bytes as <0x..>."""
    known = _tokenizer_files()
    words = {piece: known.convert_tokens_to_string([piece]).replace(" ", "▁") for piece in known._vocab}
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    named = [*special, *dict.fromkeys(word for word in words.values() if "�" not in word)]
    return GemmaTokenizer(
        vocab={word: index for index, word in enumerate(named)},
        merges=[(words[left], words[right]) for left, right in known._merges],
        extra_special_tokens={**image_tokens, "start_token": "<start_of_turn>", "end_token": "<end_of_turn>"},
    )


def _gemma_text(tokenizer: Any) -> dict[str, Any]:
    ids = {name: tokenizer.convert_tokens_to_ids(f"<{name}>") for name in ("eos", "bos", "pad")}
    return _text(tokenizer, head_dim=8, **{f"{name}_token_id": index for name, index in ids.items()})


def _siglip(image_size: int) -> SiglipVisionConfig:
    return SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=image_size,
        patch_size=14,
        vision_use_head=False,
    )


def _without_zeros(model: Any) -> Any:
    """Random values for what starts at zero (Gemma's norms, Gemma 3's whole projector): zeros would prove nothing."""
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=_INITIALIZER_RANGE)
    return model


def _qwen_parts(tokenizer: Any) -> dict[str, Any]:
    pixels = {"min_pixels": 56 * 56, "max_pixels": 140 * 140}
    return {
        "image_processor": Qwen2VLImageProcessor(**pixels),
        "tokenizer": tokenizer,
        "video_processor": Qwen2VLVideoProcessor(**pixels),
    }


_BUILDERS = {
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "llava": _llava,
    "gemma3": _gemma3,
    "paligemma": _paligemma,
    "paligemma2": _paligemma2,
}
FAMILY_NAMES = tuple(_BUILDERS)
