"""A tiny Granite Docling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, WIDTH, Tiny, text_fields, tiny_tokenizer, without_zeros

# In the manner of ibm-granite/granite-docling-258M.
TEMPLATE = (
    "{% for message in messages %}<|start_of_role|>{{ message['role'] }}<|end_of_role|>"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|end_of_text|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)
_MARKS = ("<image>", "<fake_token_around_image>", "<global-img>", "<|start_of_role|>", "<|end_of_role|>")
_PLACES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4))


def _granite_docling() -> tuple[Any, Any]:
    """Sixteen patches a tile become four tokens; what two of its blocks say is added behind two of the decoder's."""
    from transformers import (  # later than transformers 5.17
        GraniteDoclingConfig,
        GraniteDoclingForConditionalGeneration,
        GraniteDoclingImageProcessor,
        GraniteDoclingProcessor,
    )

    tokenizer = tiny_tokenizer(*_MARKS, "<|end_of_text|>", *_PLACES)
    multipliers = {"embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.7}
    config = GraniteDoclingConfig(
        text_config=text_fields(tokenizer, **multipliers, attention_multiplier=0.3, tie_word_embeddings=False),
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 16,
            "scale_factor": 2,
            "out_hidden_size": WIDTH,
            "deepstack_visual_indexes": [0, 1],
            "initializer_range": INITIALIZER_RANGE,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        tie_word_embeddings=False,
    )
    images = GraniteDoclingImageProcessor(size={"height": 64, "width": 64}, max_patches=4)
    processor = GraniteDoclingProcessor(images, tokenizer, image_seq_len=4, chat_template=TEMPLATE)
    return without_zeros(GraniteDoclingForConditionalGeneration(config)), processor


def _patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    states: torch.Tensor = loaded.model.model.vision_model.encode(images["pixel_values"][0])[0]
    return states.flatten(0, 1)


def _connected(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The decoder multiplies them by three."""
    tokens: torch.Tensor = loaded.model.model.vision_model(images["pixel_values"][0]).pooler_output
    return tokens


TINY = {
    "granite_docling": Tiny(
        _granite_docling, _patches, vision_only=_connected, added_after=2, later="GraniteDoclingConfig"
    )
}
