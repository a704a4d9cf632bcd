"""Tiny models with Pixtral's vision tower: pictures of any shape, a token at the end of each row of patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    Ministral3Config,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Mistral4Config,
    MistralConfig,
    PixtralImageProcessor,
    PixtralProcessor,
    PixtralVisionConfig,
)

from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, Tiny, text_fields, tiny_tokenizer, without_zeros

TEMPLATE = (  # as mistral-community/pixtral-12b has it
    "{{ bos_token }}{% for message in messages %}[INST]{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}[IMG]{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}[/INST]{% endfor %}"
)
_LATENT = {
    "num_key_value_heads": 4,
    "moe_intermediate_size": 16,
    "n_routed_experts": 2,
    "num_experts_per_tok": 2,  # all of them: bfloat16's rounding would choose others
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
}
IMAGE_TOKENS = ("[IMG]", "[IMG_BREAK]", "[IMG_END]")


def _pixtral() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer(*IMAGE_TOKENS)
    config = LlavaConfig(
        vision_config=_vision(),
        text_config=MistralConfig(**text_fields(tokenizer), sliding_window=None),
        image_token_id=tokenizer.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    return LlavaForConditionalGeneration(config), _processor(tokenizer, merge=1)


def _mistral3() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer(*IMAGE_TOKENS)
    return _mistral3_of(MistralConfig(**text_fields(tokenizer), head_dim=16, sliding_window=None), tokenizer)


def _ministral3() -> tuple[Any, Any]:
    """The same model type with another decoder, whose queries grow with their positions."""
    tokenizer = tiny_tokenizer(*IMAGE_TOKENS)
    rope = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 16.0, "original_max_position_embeddings": 16}
    rope |= {"max_position_embeddings": 256, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}
    text = Ministral3Config(**text_fields(tokenizer), head_dim=8, rope_parameters={**rope, "llama_4_scaling_beta": 0.5})
    return _mistral3_of(text, tokenizer)


def _mistral4() -> tuple[Any, Any]:
    """The same model type with a mixture of experts and compressed keys and values (Mistral Small 4)."""
    tokenizer = tiny_tokenizer(*IMAGE_TOKENS)
    rope = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 16.0, "original_max_position_embeddings": 16}
    rope |= {"max_position_embeddings": 256, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.5}
    fields = {**text_fields(tokenizer), **_LATENT, "q_lora_rank": 16, "rope_parameters": rope}
    return _mistral3_of(Mistral4Config(**fields, first_k_dense_replace=1), tokenizer)


def _mistral_large4() -> tuple[Any, Any]:
    """Three of four blocks know positions; each reads the sixteen tokens that it, or the one before, chooses."""
    from transformers import MistralLarge4Config, MistralLarge4ForConditionalGeneration  # later than transformers 5.17

    tokenizer = tiny_tokenizer(*IMAGE_TOKENS)
    rope = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 16.0, "original_max_position_embeddings": 16}
    indexer = {"index_topk": 16, "index_head_dim": 8, "index_n_heads": 32, "index_topk_freq": 2}
    shared = {"kv_source_layers": [0, 1, 2, 3, 2, 3], "attention_factor": 1.0}
    config = MistralLarge4Config(
        vision_config=_vision(),
        text_config={**text_fields(tokenizer), **_LATENT, **indexer, **shared, "rope_parameters": rope},
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
    )
    model = without_zeros(MistralLarge4ForConditionalGeneration(config))
    torch.nn.init.normal_(model.get_input_embeddings().weight)  # zeros would let chance choose
    return model, _processor(tokenizer, merge=2)


def _mistral3_of(text: Any, tokenizer: Any) -> tuple[Any, Any]:
    config = Mistral3Config(
        vision_config=_vision(),
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        tie_word_embeddings=False,
    )
    return Mistral3ForConditionalGeneration(config), _processor(tokenizer, merge=2)


def _vision() -> PixtralVisionConfig:
    return PixtralVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=140,
        patch_size=14,
        initializer_range=INITIALIZER_RANGE,
    )


def _processor(tokenizer: Any, merge: int) -> Any:
    return PixtralProcessor(
        image_processor=PixtralImageProcessor(size={"longest_edge": 56 * merge}, patch_size=14),
        tokenizer=tokenizer,
        patch_size=14,
        spatial_merge_size=merge,
        chat_template=TEMPLATE,
    )


def _patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Of one picture after the other, without the padding to the size of the largest."""
    tower, sizes = loaded.model.model.vision_tower, images["image_sizes"].tolist()
    pictures = [pixels[None, :, :h, :w] for pixels, (h, w) in zip(images["pixel_values"], sizes, strict=True)]
    return torch.cat([tower(picture).last_hidden_state[0] for picture in pictures])


TINY = {
    "pixtral": Tiny(_pixtral, _patches),
    "mistral3": Tiny(_mistral3, _patches),
    "ministral3": Tiny(_ministral3, _patches),
    "mistral4": Tiny(_mistral4, _patches),
    "mistral_large4": Tiny(
        _mistral_large4, _patches, block_states=lambda output: output[0], later="MistralLarge4Config"
    ),
}
