"""Tiny GLM models that see, and others that read packed patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    Ernie4_5_VLMoeConfig,
    Ernie4_5_VLMoeForConditionalGeneration,
    Ernie4_5_VLMoeImageProcessor,
    Ernie4_5_VLMoeProcessor,
    Ernie4_5_VLMoeVideoProcessor,
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
    GlmgaConfig,
    GlmgaImageProcessor,
    GlmgaVideoProcessor,
    GlmOcrConfig,
    GlmOcrForConditionalGeneration,
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

from halp_probe.engine.prompting import Prompt
from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, WIDTH, Tiny, named_tokenizer, text_fields, tiny_tokenizer, without_zeros

# As zai-org/GLM-4.1V-9B-Thinking has it.
GLM_TEMPLATE = (
    "[gMASK]<sop>\n{% for message in messages %}<|{{ message['role'] }}|>\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|begin_of_image|><|image|><|end_of_image|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# As PaddlePaddle/PaddleOCR-VL and baidu/ERNIE-4.5-VL-28B-A3B-PT have it, but for the names of the tokens.
BAIDU_TEMPLATE = (
    "{% for message in messages %}User: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|image_start|><|image|><|image_end|>{% else %}{{ part['text'] }}"
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
    "{% if part['type'] == 'image' %}<|image_start|><|image|><|image_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<|hy_User|>{% endif %}"
)
_MARKS = (*(f"<|{name}|>" for name in ("image", "video", "user", "assistant")), "[gMASK]", "<sop>")
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


def _glmga() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer(*_MARKS, *_ENDS)
    processor = Glm46VProcessor(
        image_processor=GlmgaImageProcessor(**_PIXELS),
        tokenizer=tokenizer,
        video_processor=GlmgaVideoProcessor(),
        chat_template=GLM_TEMPLATE,
    )
    return AutoModelForImageTextToText.from_config(GlmgaConfig(**_fields(tokenizer))), processor


def _glm_ocr() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer(*_MARKS, *_ENDS)
    return GlmOcrForConditionalGeneration(GlmOcrConfig(**_fields(tokenizer))), _processor(tokenizer)


def _ernie4_5_vl_moe() -> tuple[Any, Any]:
    """A block with one network for all tokens, then five in which images have other experts than text."""
    named = {f"{kind}{end}_token": f"<|{kind}{end}|>" for kind in ("image", "video") for end in ("", "_start", "_end")}
    tokenizer = named_tokenizer(named)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    experts = {"moe_num_experts": 4, "moe_k": 2, "moe_num_shared_experts": 1, "moe_intermediate_size": [32, 24]}
    tower = {"depth": 3, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2}
    config = Ernie4_5_VLMoeConfig(
        text_config=text_fields(tokenizer, rope_parameters=rope, **experts),
        vision_config={**tower, "initializer_range": INITIALIZER_RANGE},
        tie_word_embeddings=False,
        **{f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in named.items()},
    )
    processor = Ernie4_5_VLMoeProcessor(
        image_processor=Ernie4_5_VLMoeImageProcessor(size={"shortest_edge": 56 * 56, "longest_edge": 140 * 140}),
        tokenizer=tokenizer,
        video_processor=Ernie4_5_VLMoeVideoProcessor(),
        chat_template=BAIDU_TEMPLATE,
    )
    return without_zeros(Ernie4_5_VLMoeForConditionalGeneration(config)), processor


def _paddleocr_vl() -> tuple[Any, Any]:
    tokenizer = named_tokenizer(
        {"image_token": "<|image|>", "image_start": "<|image_start|>", "image_end": "<|image_end|>"}
    )
    vision = PaddleOCRVisionConfig(**_TOWER, image_size=112)
    vision.initializer_range = INITIALIZER_RANGE
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    config = PaddleOCRVLConfig(
        text_config=text_fields(tokenizer, head_dim=8, rope_parameters=rope),
        vision_config=vision,
        image_token_id=tokenizer.image_token_id,
        vision_start_token_id=tokenizer.image_start_id,
        vision_end_token_id=tokenizer.image_end_id,
        tie_word_embeddings=False,
    )
    processor = PaddleOCRVLProcessor(
        image_processor=PaddleOCRVLImageProcessor(size={"shortest_edge": 56 * 56, "longest_edge": 140 * 140}),
        tokenizer=tokenizer,
        chat_template=BAIDU_TEMPLATE,
    )
    return PaddleOCRVLForConditionalGeneration(config), processor


def _video_llama_3() -> tuple[Any, Any]:
    """Each token of an image is made of 3 × 3 patches, and not their mean: at the published 1 nothing would show."""
    tokenizer = tiny_tokenizer()
    config = VideoLlama3Config(
        text_config=Qwen2Config(**text_fields(tokenizer)),
        vision_config={**_TOWER, "patch_size": 14, "initializer_range": INITIALIZER_RANGE},
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
    )
    size = {"shortest_edge": 84 * 84, "longest_edge": 168 * 168}
    processor = VideoLlama3Processor(
        image_processor=VideoLlama3ImageProcessor(size=size, merge_size=3),
        tokenizer=tokenizer,
        video_processor=VideoLlama3VideoProcessor(),
        chat_template=VIDEO_LLAMA_TEMPLATE,
    )
    return VideoLlama3ForConditionalGeneration(config), processor


def _hunyuan_vl() -> tuple[Any, Any]:
    images = {f"{name}_token": f"<|{name}|>" for name in ("image", "image_start", "image_end")}
    tokenizer = named_tokenizer({**images, "begin": "<|hy_begin|>", "user": "<|hy_User|>"})
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


def _before_resampler(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return loaded.model.model.vision_tower(images["pixel_values"], images["image_grid_thw"]).last_hidden_state


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


def _all_types(loaded: LoadedModel, prompt: Prompt) -> dict[str, torch.Tensor]:
    ids = torch.from_numpy(prompt.input_ids)[None]
    return {"mm_token_type_ids": (ids == loaded.checkpoint.image_token_id).long()}


TINY = {
    "glm4v": Tiny(_glm4v, _patches),
    "glm46v": Tiny(_glm46v, _patches),
    "glm4v_moe": Tiny(_glm4v_moe, _patches),
    "glmga": Tiny(_glmga, _patches),
    "glm_ocr": Tiny(_glm_ocr, _patches),
    "ernie4_5_vl_moe": Tiny(_ernie4_5_vl_moe, _before_resampler, inputs=_all_types),
    "paddleocr_vl": Tiny(_paddleocr_vl, _before_projector),
    "video_llama_3": Tiny(_video_llama_3, _before_merging),
    "hunyuan_vl": Tiny(_hunyuan_vl, _before_merger),
}
