"""Tiny MiniCPM-V models of transformers' own classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    MiniCPMV4_6Config,
    MiniCPMV4_6ForConditionalGeneration,
    MiniCPMV4_6ImageProcessor,
    MiniCPMV4_6Processor,
    MiniCPMV4_6VideoProcessor,
    Qwen3_5TextConfig,
)

from halp_probe.models.loading import LoadedModel
from tiny.parts import Tiny, named_tokenizer, without_zeros
from tiny.qwen import qwen3_5_text_fields

# As openbmb/MiniCPM-V-4.6 has it, but for the system turn and for thinking.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|image_pad|>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TOKENS = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"} | {
    f"{name}_{end}_token": f"<{'' if end == 'start' else '/'}{name}>"
    for name in ("image", "slice", "image_id")
    for end in ("start", "end")
}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 112,
    "patch_size": 14,
}
_SLICES = {"scale_resolution": 112, "max_slice_nums": 4}


def _minicpmv4_6() -> tuple[Any, Any]:
    """In the tower's second block on, four patches are one; a large picture is read as a whole and in slices."""
    tokenizer = named_tokenizer(_TOKENS)
    config = MiniCPMV4_6Config(**_fields(tokenizer))
    model = without_zeros(MiniCPMV4_6ForConditionalGeneration(config))
    return model, _processor(MiniCPMV4_6Processor, MiniCPMV4_6ImageProcessor, MiniCPMV4_6VideoProcessor, tokenizer)


def _minicpmv4_7() -> tuple[Any, Any]:
    """The same with positions in three dimensions: a picture and its slices lie on one canvas."""
    from transformers import (  # later than transformers 5.17
        MiniCPMV4_7Config,
        MiniCPMV4_7ForConditionalGeneration,
        MiniCPMV4_7Processor,
    )

    tokenizer = named_tokenizer(_TOKENS)
    marks = {f"{name}_{end}_id": f"{name}_{end}_token_id" for name in ("image", "slice") for end in ("start", "end")}
    config = MiniCPMV4_7Config(
        **_fields(tokenizer),
        **{name: getattr(tokenizer, token_id) for name, token_id in marks.items()},
        newline_id=tokenizer.encode("\n")[0],
    )
    model = without_zeros(MiniCPMV4_7ForConditionalGeneration(config))
    return model, _processor(MiniCPMV4_7Processor, MiniCPMV4_6ImageProcessor, MiniCPMV4_6VideoProcessor, tokenizer)


def _minicpm_ocr() -> tuple[Any, Any]:
    """No merging within the tower: four times as many tokens."""
    from transformers import (  # later than transformers 5.17
        MiniCPMOcrConfig,
        MiniCPMOcrForConditionalGeneration,
        MiniCPMOcrImageProcessor,
        MiniCPMOcrProcessor,
        MiniCPMOcrVideoProcessor,
    )

    tokenizer = named_tokenizer(_TOKENS)
    model = without_zeros(MiniCPMOcrForConditionalGeneration(MiniCPMOcrConfig(**_fields(tokenizer))))
    return model, _processor(MiniCPMOcrProcessor, MiniCPMOcrImageProcessor, MiniCPMOcrVideoProcessor, tokenizer)


def _fields(tokenizer: Any) -> dict[str, Any]:
    return {
        "text_config": Qwen3_5TextConfig(**qwen3_5_text_fields(tokenizer)),
        "vision_config": dict(_VISION),
        "insert_layer_id": 1,
        "image_token_id": tokenizer.image_token_id,
        "video_token_id": tokenizer.video_token_id,
    }


def _processor(kind: Any, images: Any, videos: Any, tokenizer: Any) -> Any:
    return kind(
        image_processor=images(**_SLICES), video_processor=videos(), tokenizer=tokenizer, chat_template=TEMPLATE
    )


def _slices(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Slice by slice: the tower sees nothing of the others."""
    model, sizes = loaded.model.model, images["target_sizes"]
    side = model.config.vision_config.patch_size
    pixels = images["pixel_values"].split([int(size.prod()) * side for size in sizes], dim=-1)
    merges = model.config.downsample_mode != "4x"
    states = [
        model.vision_tower(slice_, target_sizes=size[None], use_vit_merger=merges).last_hidden_state[0]
        for slice_, size in zip(pixels, sizes, strict=True)
    ]
    return torch.cat(states)


TINY = {
    "minicpmv4_6": Tiny(_minicpmv4_6, _slices),
    "minicpmv4_7": Tiny(_minicpmv4_7, _slices, later="MiniCPMV4_7Config"),
    "minicpm_ocr": Tiny(_minicpm_ocr, _slices, later="MiniCPMOcrConfig"),
}
