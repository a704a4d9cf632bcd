"""Tiny models that cut a picture into tiles and put the patches of a tile side by side, two by two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    AyaVisionConfig,
    AyaVisionForConditionalGeneration,
    AyaVisionProcessor,
    Cohere2Config,
    Cohere2VisionConfig,
    Cohere2VisionForConditionalGeneration,
    Cohere2VisionImageProcessor,
    Cohere2VisionProcessor,
    GotOcr2Config,
    GotOcr2ImageProcessor,
    GotOcr2Processor,
    GptOssConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    Llama4Config,
    Llama4ForConditionalGeneration,
    Llama4ImageProcessor,
    Llama4Processor,
    Llama4TextConfig,
    PPChart2TableConfig,
    PPChart2TableImageProcessor,
    PPChart2TableProcessor,
    Qwen2Config,
    Qwen3MoeConfig,
)

from halp_probe.models.compat import complete_outputs
from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, Tiny, siglip, text_fields, tiny_tokenizer, without_zeros

INTERNVL_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<IMG_CONTEXT>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
COHERE_TEMPLATE = (  # as CohereForAI/aya-vision-8b has it; command-a-vision's has <|IMG_PATCH|> in place of <image>
    "<BOS_TOKEN>{% for message in messages %}<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|END_OF_TURN_TOKEN|>{% endfor %}"
    "{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}"
)
COHERE_TOKENS = ("<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|END_OF_TURN_TOKEN|>")
LLAMA4_TOKENS = ("<|header_start|>", "<|header_end|>", "<|eot|>", "<|image_start|>", "<|image_end|>", "<|image|>")
LLAMA4_TOKENS += ("<|patch|>", "<|tile_x_separator|>", "<|tile_y_separator|>")
TILE = 56  # pixels; with patches of 14, sixteen patches and four image tokens a tile


def _internvl() -> tuple[Any, Any]:
    return _internvl_of(Qwen2Config)


def _internvl_moe() -> tuple[Any, Any]:
    """InternVL 3.5's decoder in its larger sizes."""
    return _internvl_of(Qwen3MoeConfig, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32)


def _internvl_gpt_oss() -> tuple[Any, Any]:
    """InternVL 3.5 on GPT-OSS, whose feed-forward gives its routing as well."""
    rope = {"rope_type": "default", "rope_theta": 150000.0}
    return _internvl_of(GptOssConfig, head_dim=8, num_local_experts=4, num_experts_per_tok=2, rope_parameters=rope)


def _internvl_of(text: Any, **chosen: Any) -> tuple[Any, Any]:
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    tokenizer = _tokenizer({**named, "video_token": "<video>"})
    config = InternVLConfig(
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": TILE,
            "patch_size": 14,
            "initializer_range": INITIALIZER_RANGE,
        },
        text_config=text(**text_fields(tokenizer), **chosen),
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=4,
    )
    processor = InternVLProcessor(
        image_processor=_tiles(),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(),
        image_seq_length=4,
        chat_template=INTERNVL_TEMPLATE,
    )
    return without_zeros(InternVLForConditionalGeneration(config)), processor


def _aya_vision() -> tuple[Any, Any]:
    named = {"start": "<|START_OF_IMG|>", "end": "<|END_OF_IMG|>", "patch": "<|IMG_PATCH|>", "image": "<image>"}
    tokenizer = _tokenizer({f"{name}_token": token for name, token in named.items()}, *COHERE_TOKENS)
    config = AyaVisionConfig(
        vision_config=siglip(TILE),
        text_config=_cohere2(tokenizer),
        image_token_index=tokenizer.patch_token_id,
        downsample_factor=2,
        alignment_intermediate_size=64,
    )
    processor = AyaVisionProcessor(
        image_processor=_tiles(),
        tokenizer=tokenizer,
        patch_size=14,
        img_size=TILE,
        downsample_factor=2,
        chat_template=COHERE_TEMPLATE,
    )
    return without_zeros(AyaVisionForConditionalGeneration(config)), processor


def _cohere2_vision() -> tuple[Any, Any]:
    named = {"boi": "<|START_OF_IMG|>", "eoi": "<|END_OF_IMG|>", "image": "<|IMG_PATCH|>"}
    named["img_line_break"] = "<|IMG_LINE_BREAK|>"
    tokenizer = _tokenizer({f"{name}_token": token for name, token in named.items()}, *COHERE_TOKENS)
    config = Cohere2VisionConfig(
        vision_config=siglip(TILE),
        text_config=_cohere2(tokenizer),
        image_token_id=tokenizer.image_token_id,
        downsample_factor=2,
        alignment_intermediate_size=64,
    )
    processor = Cohere2VisionProcessor(
        image_processor=Cohere2VisionImageProcessor(
            size={"height": TILE, "width": TILE},
            max_patches=3,
            patch_size=2,  # its square is the number of a tile's tokens
        ),
        tokenizer=tokenizer,
        chat_template=COHERE_TEMPLATE.replace("<image>", "<|IMG_PATCH|>"),
    )
    return without_zeros(Cohere2VisionForConditionalGeneration(config)), processor


def _llama4() -> tuple[Any, Any]:
    """Every second block holds experts; each fourth has no rotary positions and attends to everything."""
    tokenizer = tiny_tokenizer(*LLAMA4_TOKENS)
    text = Llama4TextConfig(
        **text_fields(tokenizer),
        head_dim=8,
        intermediate_size_mlp=64,
        num_local_experts=4,
        interleave_moe_layer_step=2,
        attention_chunk_size=256,
    )
    config = Llama4Config(
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": TILE,
            "patch_size": 14,
            "projector_input_dim": 24,
            "projector_output_dim": 24,
            "vision_output_dim": 24,
            "initializer_range": INITIALIZER_RANGE,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<|patch|>"),
        boi_token_index=tokenizer.convert_tokens_to_ids("<|image_start|>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<|image_end|>"),
    )
    processor = Llama4Processor(  # its own chat template
        image_processor=Llama4ImageProcessor(size={"height": TILE, "width": TILE}, max_patches=3),
        tokenizer=tokenizer,
        patch_size=14,
    )
    model = Llama4ForConditionalGeneration(config)
    complete_outputs(model)
    return model, processor


def _got_ocr2() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer("<img>", "</img>", "<imgpad>")
    processor = GotOcr2Processor(
        image_processor=GotOcr2ImageProcessor(size={"height": 128, "width": 128}),
        tokenizer=tokenizer,
        chat_template=INTERNVL_TEMPLATE.replace("<IMG_CONTEXT>", "<img><imgpad></img>"),
    )
    processor.num_image_tokens = 4
    return _got_of(GotOcr2Config, tokenizer), processor


def _pp_chart2table() -> tuple[Any, Any]:
    """The chat template writes all image tokens itself."""
    tokenizer = tiny_tokenizer("<img>", "</img>", "<imgpad>")
    processor = PPChart2TableProcessor(
        image_processor=PPChart2TableImageProcessor(size={"height": 128, "width": 128}),
        tokenizer=tokenizer,
        chat_template=INTERNVL_TEMPLATE.replace("<IMG_CONTEXT>", "<img>" + "<imgpad>" * 4 + "</img>"),
    )
    return _got_of(PPChart2TableConfig, tokenizer), processor


def _got_of(kind: Any, tokenizer: Any) -> Any:
    """No tiles; two convolutions between tower and projector make four tokens of 64 patches."""
    config = kind(
        vision_config={
            "hidden_size": 16,
            "mlp_dim": 32,
            "output_channels": 8,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 128,
            "window_size": 3,
            "global_attn_indexes": [1],
            "initializer_range": INITIALIZER_RANGE,
        },
        text_config=Qwen2Config(**text_fields(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<imgpad>"),
    )
    return without_zeros(AutoModelForImageTextToText.from_config(config))


def _cohere2(tokenizer: Any) -> Cohere2Config:
    """Three blocks with a sliding window and rotary positions, then one with neither, and so on."""
    return Cohere2Config(**text_fields(tokenizer), sliding_window=256)


def _tokenizer(named: dict[str, str], *more: str) -> Any:
    tokenizer = tiny_tokenizer(*named.values(), *more)
    tokenizer._set_model_specific_special_tokens(named)
    return tokenizer


def _tiles() -> Any:
    return GotOcr2ImageProcessor(size={"height": TILE, "width": TILE}, crop_to_patches=True, max_patches=3)


def _without_class_token(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return loaded.model.model.vision_tower(images["pixel_values"]).last_hidden_state[:, 1:].flatten(0, 1)


def _patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    states = loaded.model.model.vision_tower(images["pixel_values"], output_hidden_states=True).hidden_states
    return states[-1].flatten(0, 1)


def _normed_patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return loaded.model.model.vision_tower(images["pixel_values"]).last_hidden_state.flatten(0, 1)


def _llama4_patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tower = loaded.model.vision_model
    states = tower(images["pixel_values"], output_hidden_states=True).hidden_states[-1]
    return tower.layernorm_post(states)[:, :-1].flatten(0, 1)


def _neck(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    channels = loaded.model.model.vision_tower(images["pixel_values"]).last_hidden_state[0]  # [V, rows, columns]
    return torch.stack([channels[:, row, column] for row in range(8) for column in range(8)])


TINY = {
    "internvl": Tiny(_internvl, _without_class_token),
    "internvl_moe": Tiny(_internvl_moe, _without_class_token),
    "internvl_gpt_oss": Tiny(_internvl_gpt_oss, _without_class_token),
    "aya_vision": Tiny(_aya_vision, _patches),
    "cohere2_vision": Tiny(_cohere2_vision, _normed_patches),
    "llama4": Tiny(_llama4, _llama4_patches),
    "pp_chart2table": Tiny(_pp_chart2table, _neck),
    "got_ocr2": Tiny(_got_ocr2, _neck, tokenized_template=False),
}
