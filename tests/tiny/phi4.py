"""A tiny Phi-4-multimodal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    Phi4MultimodalAudioConfig,
    Phi4MultimodalConfig,
    Phi4MultimodalFeatureExtractor,
    Phi4MultimodalForCausalLM,
    Phi4MultimodalImageProcessor,
    Phi4MultimodalProcessor,
    Phi4MultimodalVisionConfig,
    Qwen2Tokenizer,
)
from transformers.utils.output_capturing import maybe_install_capturing_hooks

from halp_probe.models.loading import LoadedModel
from tiny.parts import Tiny, text_fields, tokenizer_files, without_zeros

# As microsoft/Phi-4-multimodal-instruct in transformers' own format has it.
PHI4_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|endoftext10|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# The processor counts on 32 by 32 patches a crop. Of the four pictures one has two crops, two have padding.
CROP, PATCH = 160, 5


def _phi4_multimodal() -> tuple[Any, Any]:
    tokenizer = _tokenizer()
    vision = Phi4MultimodalVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=1,
        image_size=CROP,
        crop_size=CROP,
        patch_size=PATCH,
        image_token_id=tokenizer.image_token_id,
    )
    audio = Phi4MultimodalAudioConfig(
        hidden_size=16,
        intermediate_size=16,
        num_blocks=2,
        num_attention_heads=2,
        ext_pw_out_channel=16,
        depthwise_separable_out_channel=16,
        nemo_conv_channels=16,
        audio_token_id=tokenizer.audio_token_id,
    )
    config = Phi4MultimodalConfig(
        vision_config=vision,
        audio_config=audio,
        **text_fields(
            tokenizer,
            num_attention_heads=2,  # few, here and in the tower: attention to a thousand places is what takes the time
            num_key_value_heads=1,
            max_position_embeddings=4096,
            eos_token_id=tokenizer.convert_tokens_to_ids("<|end|>"),
        ),
        original_max_position_embeddings=1024,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.75,
            "short_factor": [1.0, 1.1, 1.2, 1.4, 1.7, 2.0],
            "long_factor": [2.0, 3.0, 5.0, 8.0, 13.0, 21.0],
            "original_max_position_embeddings": 1024,
        },
    )
    processor = Phi4MultimodalProcessor(
        image_processor=Phi4MultimodalImageProcessor(
            size={"height": CROP, "width": CROP}, patch_size=PATCH, dynamic_hd=4
        ),
        audio_processor=Phi4MultimodalFeatureExtractor(),
        tokenizer=tokenizer,
        chat_template=PHI4_TEMPLATE,
    )
    model = without_zeros(Phi4MultimodalForCausalLM(config))
    # Else the tower gets transformers' hooks when it first runs, and again when the whole model's states are asked for.
    maybe_install_capturing_hooks(model.model)
    return model, processor


def _tokenizer() -> Any:
    known = tokenizer_files()
    named = {"image_token": "<|endoftext10|>", "audio_token": "<|endoftext11|>"}
    return Qwen2Tokenizer(
        vocab=known._vocab,
        merges=known._merges,
        extra_special_tokens={
            **named,
            **{f"token_{k}": token for k, token in enumerate([*known.extra_special_tokens, *_TURNS])},
        },
    )


_TURNS = ("<|user|>", "<|assistant|>", "<|end|>")


def _patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Of the tower's last block but one, crop by crop, where the mask says that there is a picture."""
    tower = loaded.model.model.embed_tokens_extend.image_embed.img_processor
    mask = images["image_attention_mask"][0].bool()  # [crops, rows, columns]
    states = tower(images["image_pixel_values"][0], patch_attention_mask=mask, output_hidden_states=True).hidden_states
    return torch.cat([crop[there.flatten()] for crop, there in zip(states[-2], mask, strict=True)])


TINY = {"phi4_multimodal": Tiny(_phi4_multimodal, _patches, handed_out=False)}
