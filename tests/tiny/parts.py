"""What tiny models are made of: a tokenizer, text and vision configurations, all small and random.

The families' own modules beside this one put them together; each exports `TINY`, by name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GemmaTokenizer, SiglipVisionConfig

from halp_probe.engine.prompting import Prompt
from halp_probe.models.loading import LoadedModel
from halp_probe.shapes.model import build_tokenizer

WIDTH = 32
INITIALIZER_RANGE = 0.2  # wide enough that one wrong index shows in every number


@dataclass(frozen=True)
class Tiny:
    """A family under test, and references that use nothing but the model's own modules.

    `vision_encoder` takes the loaded model and one prompt's image inputs and gives [patches, V]: its mean is what must
    be captured. The other fields are for families whose parts transformers does not name alike.
    """

    build: Callable[[], tuple[Any, Any]]  # -> a seeded model, its processor
    vision_encoder: Callable[[LoadedModel, Mapping[str, torch.Tensor]], torch.Tensor]
    vision_only: Callable[[LoadedModel, Mapping[str, torch.Tensor]], torch.Tensor] | None = None  # [image tokens, D];
    # None: what stands at the image tokens at the first block's input
    block_states: Callable[[Any], torch.Tensor] | None = None  # what a block returns -> [B, T, D]; None: just that
    token_axis: int = -2  # which axis of the first block's input counts tokens
    added_after: int = 0  # so many first blocks have image features added to their output at image tokens (DeepStack)
    hidden_states: bool = True  # `output_hidden_states` tells the blocks' outputs; False: plain hooks are the reference
    inputs: Callable[[LoadedModel, Prompt], Mapping[str, torch.Tensor]] | None = None  # further inputs of one prompt
    behind_image: int = 0  # tokens behind the last image token which it sees: a shared prefix holds them too
    tokenized_template: bool = True  # False: the processor refuses pictures as `apply_chat_template` passes them
    later: str = ""  # a class that transformers 5.17 has not
    handed_out: bool = True  # also fed as in transformers 5.17, where it was there already


@functools.cache
def tokenizer_files() -> Any:
    return build_tokenizer()


def tiny_tokenizer(*extra: str) -> Any:
    from transformers import Qwen2Tokenizer

    known = tokenizer_files()
    return Qwen2Tokenizer(
        vocab=known._vocab,
        merges=known._merges,
        extra_special_tokens=[*known.extra_special_tokens, *extra],
    )


def named_tokenizer(named: Mapping[str, str], *extra: str) -> Any:
    """The tiny tokenizer with these special tokens, known by these names too: `image_token` and `image_token_id`."""
    tokenizer = tiny_tokenizer(*named.values(), *extra)
    tokenizer.init_kwargs.update(named)  # saved with it
    for name, token in named.items():
        setattr(tokenizer, name, token)
        setattr(tokenizer, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
    return tokenizer


def text_fields(tokenizer: Any, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": INITIALIZER_RANGE,
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "bos_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        **more,
    }


def gemma_tokenizer(image_tokens: dict[str, str]) -> Any:
    """Gemma's own class with the tiny tokenizer's words: spaces as ▁, other bytes as <0x..>."""
    known = tokenizer_files()
    words = {piece: known.convert_tokens_to_string([piece]).replace(" ", "▁") for piece in known._vocab}
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    named = [*special, *dict.fromkeys(word for word in words.values() if "�" not in word)]
    return GemmaTokenizer(
        vocab={word: index for index, word in enumerate(named)},
        merges=[(words[left], words[right]) for left, right in known._merges],
        extra_special_tokens={**image_tokens, "start_token": "<start_of_turn>", "end_token": "<end_of_turn>"},
    )


def siglip(image_size: int) -> SiglipVisionConfig:
    return SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=image_size,
        patch_size=14,
        vision_use_head=False,
    )


def without_zeros(model: Any) -> Any:
    """Random values for what starts at zero (Gemma's norms, Gemma 3's whole projector): zeros would prove nothing."""
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=INITIALIZER_RANGE)
    return model
