"""Build ShapesVQA's tiny real VLM: a `Qwen2_5_VLForConditionalGeneration` of 2 M parameters and its processor."""

from __future__ import annotations

import json

from tokenizers import pre_tokenizers, trainers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from halp_probe.models.chatml import SYSTEM_PROMPT, chat_template
from halp_probe.shapes import questions, scenes
from halp_probe.shapes.dataset import FIRST_TRAINING_SEED

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
INITIALIZER_RANGE = 0.06  # near 1/sqrt(width): with the large models' 0.02 the image tokens collapse onto one vector
CHAT_TEMPLATE = chat_template("<|vision_start|><|image_pad|><|vision_end|>")  # as the large checkpoints have it


def build_tokenizer() -> Qwen2Tokenizer:
    """Train a byte-level BPE like Qwen's: ShapesVQA's words are one or two tokens, other text splits into bytes."""
    corpus = [*questions.every_text(), *(f"{role}\n{SYSTEM_PROMPT}" for role in ("system", "user", "assistant"))]
    corpus += [
        scenes.caption(scenes.make_scene(seed, scenes.MILD))
        for seed in range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + 500)
    ]
    learner = Qwen2Tokenizer(vocab={}, merges=[]).backend_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner.train_from_iterator(corpus, trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(pair) for pair in learned["merges"]],
        extra_special_tokens=list(SPECIAL_TOKENS[1:]),
        model_max_length=1024,
    )


def build_processor() -> Qwen2_5_VLProcessor:
    """Build the processor: pictures of any size become 4 to 16 image tokens (28 × 28 pixels each)."""
    pixels = {"min_pixels": 56 * 56, "max_pixels": scenes.SIDE * scenes.SIDE}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**pixels),
        tokenizer=build_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(**pixels),
        chat_template=CHAT_TEMPLATE,
    )


def build_model(processor: Qwen2_5_VLProcessor) -> Qwen2_5_VLForConditionalGeneration:
    """Build the untrained model, float32; weights follow torch's global seed."""
    ids = processor.tokenizer.convert_tokens_to_ids
    special = {
        "bos_token_id": ids("<|endoftext|>"),
        "eos_token_id": ids("<|im_end|>"),
        "pad_token_id": ids("<|endoftext|>"),
    }
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(processor.tokenizer),
            "hidden_size": 128,
            "intermediate_size": 448,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
            "tie_word_embeddings": True,
            "initializer_range": INITIALIZER_RANGE,
            **special,
        },
        vision_config={
            "depth": 4,
            "hidden_size": 96,
            "intermediate_size": 256,
            "num_heads": 4,
            "out_hidden_size": 128,
            "window_size": 112,
            "fullatt_block_indexes": [1, 3],
            "initializer_range": INITIALIZER_RANGE,
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=True,
        initializer_range=INITIALIZER_RANGE,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = [special["eos_token_id"], special["bos_token_id"]]
    model.generation_config.pad_token_id = special["pad_token_id"]
    return model
