"""Tiny GLM models that see, and others that read packed patches."""

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
    HunYuanVLConfig,
    HunYuanVLForConditionalGeneration,
    HunYuanVLImageProcessor,
    HunYuanVLProcessor,
    PaddleOCRVisionConfig,
    PaddleOCRVLConfig,
    PaddleOCRVLForConditionalGeneration,
    PaddleOCRVLImageProcessor,
    PaddleOCRVLProcessor,
    Qwen2Config,
    VideoLlama3Config,
    VideoLlama3ForConditionalGeneration,
    VideoLlama3ImageProcessor,
    VideoLlama3Processor,
    VideoLlama3VideoProcessor,
)

from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, WIDTH, Tiny, text_fields, tiny_tokenizer, without_zeros

# As zai-org/GLM-4.1V-9B-Thinking has it.
GLM_TEMPLATE = (
    "[gMASK]<sop>\n{% for message in messages %}<|{{ message['role'] }}|>\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|begin_of_image|><|image|><|end_of_image|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# As PaddlePaddle/PaddleOCR-VL has it.
PADDLE_TEMPLATE = (
    "{% for message in messages %}User: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}\n{% endfor %}{% if add_generation_prompt %}Assistant: {% endif %}"
)
# As lkhl/VideoLLaMA3-2B-Image-HF has it.
VIDEO_LLAMA_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|image_pad|>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As tencent/HunyuanOCR has it.
HUNYUAN_TEMPLATE = (
    "<|hy_begin|>{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|img_start|><|img|><|img_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<|hy_User|>{% endif %}"
)
_MARKS = tuple(f"<|{name}|>" for name in ("image", "video", "user", "assistant")) + ("[gMASK]", "<sop>")
_ENDS = tuple(f"<|{end}_of_{kind}|>" for kind in ("image", "video") for end in ("begin", "end"))
_TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
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


def _paddleocr_vl() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer("<|IMAGE_START|>", "<|IMAGE_PLACEHOLDER|>", "<|IMAGE_END|>")
    tokenizer.image_token = "<|IMAGE_PLACEHOLDER|>"
    tokenizer.image_token_id = tokenizer.convert_tokens_to_ids(tokenizer.image_token)
    vision = PaddleOCRVisionConfig(**_TOWER, image_size=112)
    vision.initializer_range = INITIALIZER_RANGE
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    config = PaddleOCRVLConfig(
        text_config=text_fields(tokenizer, head_dim=8, rope_parameters=rope),
        vision_config=vision,
        image_token_id=tokenizer.image_token_id,
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|IMAGE_START|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|IMAGE_END|>"),
        tie_word_embeddings=False,
    )
    processor = PaddleOCRVLProcessor(
        image_processor=PaddleOCRVLImageProcessor(size={"shortest_edge": 56 * 56, "longest_edge": 140 * 140}),
        tokenizer=tokenizer,
        chat_template=PADDLE_TEMPLATE,
    )
    return PaddleOCRVLForConditionalGeneration(config), processor


def _video_llama_3() -> tuple[Any, Any]:
    """Each token of an image is 2 × 2 patches, as with the published model's larger merge size."""
    tokenizer = tiny_tokenizer()
    config = VideoLlama3Config(
        text_config=Qwen2Config(**text_fields(tokenizer)),
        vision_config={**_TOWER, "patch_size": 14, "initializer_range": INITIALIZER_RANGE},
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
    )
    size = {"shortest_edge": 56 * 56, "longest_edge": 140 * 140}
    processor = VideoLlama3Processor(
        image_processor=VideoLlama3ImageProcessor(size=size, merge_size=2),
        tokenizer=tokenizer,
        video_processor=VideoLlama3VideoProcessor(),
        chat_template=VIDEO_LLAMA_TEMPLATE,
    )
    return VideoLlama3ForConditionalGeneration(config), processor


def _hunyuan_vl() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer("<|hy_begin|>", "<|hy_User|>", "<|img|>", "<|img_start|>", "<|img_end|>")
    for name, token in (("image", "<|img|>"), ("image_start", "<|img_start|>"), ("image_end", "<|img_end|>")):
        setattr(tokenizer, f"{name}_token", token)
        setattr(tokenizer, f"{name}_token_id", tokenizer.convert_tokens_to_ids(token))
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "alpha": 1000.0, "factor": 1.0}
    rope["mrope_section"] = [1, 1, 1, 1]
    vision = {**_TOWER, "patch_size": 16, "max_image_size": 128, "out_hidden_size": WIDTH, "text_hidden_size": WIDTH}
    config = HunYuanVLConfig(
        text_config=text_fields(tokenizer, head_dim=8, rope_parameters=rope),
        vision_config={**vision, "initializer_range": INITIALIZER_RANGE},
        image_token_id=tokenizer.image_token_id,
        image_start_token_id=tokenizer.image_start_token_id,
        image_end_token_id=tokenizer.image_end_token_id,
        tie_word_embeddings=False,
    )
    processor = HunYuanVLProcessor(
        image_processor=HunYuanVLImageProcessor(size={"shortest_edge": 64 * 64, "longest_edge": 160 * 160}),
        tokenizer=tokenizer,
        chat_template=HUNYUAN_TEMPLATE,
    )
    return without_zeros(HunYuanVLForConditionalGeneration(config)), processor


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


def _before_projector(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tower, pixels = loaded.model.model.visual.vision_model, images["pixel_values"][None]
    return tower(pixel_values=pixels, grid_thw=images["image_grid_thw"]).last_hidden_state.flatten(0, -2)


def _before_merging(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tower, blocks = loaded.model.model.vision_model, []
    hook = tower.encoder.layers[-1].register_forward_hook(lambda _module, _args, output: blocks.append(output))
    tower(images["pixel_values"], images["image_grid_thw"], images["image_merge_sizes"])
    hook.remove()
    return tower.post_layernorm(blocks[0])


def _before_merger(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return loaded.model.model.vision_tower(images["pixel_values"], images["image_grid_thw"]).last_hidden_state[0]


TINY = {
    "glm4v": Tiny(_glm4v, _patches),
    "glm46v": Tiny(_glm46v, _patches),
    "glm4v_moe": Tiny(_glm4v_moe, _patches),
    "paddleocr_vl": Tiny(_paddleocr_vl, _before_projector),
    "video_llama_3": Tiny(_video_llama_3, _before_merging),
    "hunyuan_vl": Tiny(_hunyuan_vl, _before_merger),
}
