"""Models of random weights from configs alone, with their processor, and the rows to ask them. No hub.

The presets differ in size; all are `Qwen2_5_VLForConditionalGeneration`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prompting import Prompt, Prompter
from halp_probe.models.cpu_memory import keep_freed_memory
from halp_probe.models.families import family_of
from halp_probe.models.loading import Checkpoint, LoadedModel
from halp_probe.models.patch_projection import flatten_patch_projection
from halp_probe.models.vision_attention import pack_vision_attention
from halp_probe.records import Sample
from halp_probe.shapes.model import CHAT_TEMPLATE, SPECIAL_TOKENS, build_tokenizer

QUESTION_TOKENS = 24
_WORDS = (
    "is",
    "there",
    "one",
    "red",
    "green",
    "blue",
    "yellow",
    "orange",
    "purple",
    "circle",
    "square",
    "triangle",
    "star",
    "cross",
    "shape",
    "shapes",
    "many",
    "the",
)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A model's sizes, as its config has them, and what is measured on it unless flags say otherwise."""

    text: dict[str, Any]
    vision: dict[str, Any]
    dtype: str
    initializer_range: float  # near 1/sqrt(width), so that image tokens stay apart
    images: int
    picture: tuple[int, int]  # width, height in pixels


def _rope(theta: float, *section: int) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta, "mrope_section": list(section)}


_PATCHES = {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3, "hidden_act": "silu"}

PRESETS = {
    "tiny": Preset(
        text={
            "hidden_size": 32,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 64,
            "vocab_size": 512,
            "max_position_embeddings": 1024,
            "rope_parameters": _rope(10000.0, 1, 1, 2),
        },
        vision={
            **_PATCHES,
            "depth": 3,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        dtype="float32",
        initializer_range=0.2,
        images=3,
        picture=(168, 140),
    ),
    # The 7B's proportions: heads to key-value heads, MLP to width, and the vision tower's and the head's share.
    "small": Preset(
        text={
            "hidden_size": 616,
            "num_hidden_layers": 6,
            "num_attention_heads": 7,
            "num_key_value_heads": 1,
            "intermediate_size": 3256,
            "vocab_size": 5632,
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6,
            "rope_parameters": _rope(1e6, 12, 16, 16),
        },
        vision={
            **_PATCHES,
            "depth": 8,
            "hidden_size": 208,
            "intermediate_size": 556,
            "num_heads": 4,
            "out_hidden_size": 616,
            "window_size": 112,
            "fullatt_block_indexes": [7],
        },
        dtype="float32",
        initializer_range=0.04,
        images=6,
        picture=(640, 480),
    ),
    # As Qwen/Qwen2.5-VL-7B-Instruct's config.json has it; only the ids of special tokens are the tokenizer's here.
    "qwen2.5-vl-7b": Preset(
        text={
            "hidden_size": 3584,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "intermediate_size": 18944,
            "vocab_size": 152064,
            "max_position_embeddings": 128000,
            "rms_norm_eps": 1e-6,
            "use_sliding_window": False,
            "rope_parameters": _rope(1e6, 16, 24, 24),
        },
        vision={
            **_PATCHES,
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 3584,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
            "tokens_per_second": 2,
        },
        dtype="bfloat16",
        initializer_range=0.02,
        images=32,
        picture=(640, 480),
    ),
}
PRESETS["tiny-bfloat16"] = replace(PRESETS["tiny"], dtype="bfloat16")  # for paths that a CPU in float32 never takes


def build_config(preset: Preset, tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLConfig:
    """The config, without an end token: every answer runs to its full length."""
    ids = tokenizer.convert_tokens_to_ids
    return Qwen2_5_VLConfig(
        text_config={
            **preset.text,
            "initializer_range": preset.initializer_range,
            "tie_word_embeddings": False,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**preset.vision, "initializer_range": preset.initializer_range},
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=False,
        initializer_range=preset.initializer_range,
    )


def build_model(name: str, device: torch.device) -> LoadedModel:
    """The preset's model with seeded weights made on the device, and its processor."""
    preset = PRESETS[name]
    processor = _processor(preset.text["vocab_size"])
    config = build_config(preset, processor.tokenizer)
    if device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(7)
    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration._from_config(
            config, dtype=getattr(torch, preset.dtype), attn_implementation="sdpa"
        )
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    family = family_of(config.model_type)
    pack_vision_attention(model, family)
    flatten_patch_projection(model, family)
    return LoadedModel(
        checkpoint=Checkpoint(
            name=name, source=name, revision="random", config=config, processor=processor, family=family
        ),
        model=model.eval(),
    )


def make_prompts(loaded: LoadedModel, images: int, questions: int, picture: tuple[int, int]) -> list[Prompt]:
    """`questions` on each of `images` pictures, the rows of one image together; the same in every run."""
    rng = np.random.default_rng(11)
    prompter = Prompter(checkpoint=loaded.checkpoint)
    width, height = picture
    prompts = []
    for image in range(images):
        coarse = rng.integers(0, 255, size=(max(2, height // 40), max(2, width // 40), 3), dtype=np.uint8)
        loaded_image = LoadedImage(Image.fromarray(coarse).resize(picture, Image.Resampling.BICUBIC), f"image {image}")
        for k in range(questions):
            text = question(rng, loaded.checkpoint.processor.tokenizer)
            sample = Sample(question_id=f"{image}-{k}", image_id=f"{image}.png", question=text, answer="")
            prompts.append(prompter.prompt(sample, loaded_image))
    return prompts


def question(rng: np.random.Generator, tokenizer: Qwen2Tokenizer, tokens: int = QUESTION_TOKENS) -> str:
    """Random words, about so many tokens of them."""
    text = ""
    while len(tokenizer(text + " ?")["input_ids"]) < tokens:
        text += f" {rng.choice(_WORDS)}"
    return text.strip() + "?"


def _processor(vocabulary: int) -> Qwen2_5_VLProcessor:
    """Qwen2.5-VL's, with a tokenizer in which every id of the model's vocabulary is a text of its own."""
    known = build_tokenizer()
    words = dict(known._vocab)
    missing = vocabulary - len(set(words) | set(SPECIAL_TOKENS))
    words |= {f"<{number}>": len(words) + number for number in range(missing)}
    tokenizer = Qwen2Tokenizer(vocab=words, merges=known._merges, extra_special_tokens=list(SPECIAL_TOKENS[1:]))
    tokenizer.eos_token = None  # no answer ends before its full length
    if len(tokenizer) != vocabulary:
        raise RuntimeError(f"the tokenizer has {len(tokenizer)} ids, the model {vocabulary}")
    pixels = {"min_pixels": 56 * 56, "max_pixels": 1280 * 28 * 28}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**pixels),
        chat_template=CHAT_TEMPLATE,
    )
