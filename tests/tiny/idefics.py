"""Tiny Idefics models and SmolVLM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    Idefics2Config,
    Idefics2ForConditionalGeneration,
    Idefics2ImageProcessor,
    Idefics2Processor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlamaConfig,
    MistralConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, WIDTH, Tiny, text_fields, tiny_tokenizer

# As the checkpoints have it: no space between the role and a picture.
TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
    "initializer_range": INITIALIZER_RANGE,
}
TILES = {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 56}}  # up to four, and the whole picture


def _idefics3() -> tuple[Any, Any]:
    tokenizer = _tokenizer()
    config = Idefics3Config(**_shuffled(tokenizer))
    images = Idefics3ImageProcessor(**TILES)
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=TEMPLATE)
    return Idefics3ForConditionalGeneration(config), processor


def _smolvlm() -> tuple[Any, Any]:
    tokenizer = _tokenizer()
    config = SmolVLMConfig(**_shuffled(tokenizer))
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(**TILES),
        tokenizer,
        SmolVLMVideoProcessor(),
        image_seq_len=4,
        chat_template=TEMPLATE,
    )
    return SmolVLMForConditionalGeneration(config), processor


def _idefics2() -> tuple[Any, Any]:
    """Quarters of a picture beside the whole of it: smaller, so most of a quarter's frame is padding."""
    tokenizer = _tokenizer()
    text = MistralConfig(**text_fields(tokenizer), sliding_window=None)
    perceiver = {
        "hidden_size": WIDTH,
        "resampler_n_latents": 3,
        "resampler_depth": 2,
        "resampler_n_heads": 4,
        "resampler_head_dim": 8,
        "num_key_value_heads": 2,
        "initializer_range": INITIALIZER_RANGE,
    }
    config = Idefics2Config(
        text_config=text,
        vision_config=VISION,
        perceiver_config=perceiver,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    images = Idefics2ImageProcessor(size={"shortest_edge": 28, "longest_edge": 98}, do_image_splitting=True)
    processor = Idefics2Processor(images, tokenizer, image_seq_len=3, chat_template=TEMPLATE)
    model = Idefics2ForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.connector.perceiver_resampler.latents)  # all ones: one latent like the other
    return model, processor


def _tokenizer() -> Any:
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    return tiny_tokenizer("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *places)


def _shuffled(tokenizer: Any) -> dict[str, Any]:
    """Four by four patches a tile become four image tokens."""
    return {
        "text_config": LlamaConfig(**text_fields(tokenizer)),
        "vision_config": VISION,
        "scale_factor": 2,
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
    }


def _tiles(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return loaded.model.model.vision_model(images["pixel_values"][0]).last_hidden_state.flatten(0, 1)


def _cut_tiles(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Each tile by itself, without its padding."""
    tower, states = loaded.model.model.vision_model, []
    for pixels, mask in zip(images["pixel_values"][0], images["pixel_attention_mask"][0], strict=True):
        height, width = (int(mask[:, 0].sum()), int(mask[0].sum()))
        states.append(tower(pixels[None, :, :height, :width]).last_hidden_state[0])
    return torch.cat(states)


TINY = {
    "smolvlm": Tiny(_smolvlm, _tiles),
    "idefics3": Tiny(_idefics3, _tiles),
    "idefics2": Tiny(_idefics2, _cut_tiles),
}
