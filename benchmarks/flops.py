"""Floating-point operations that each way of reading a Qwen2.5-VL needs, from its config and lengths alone. Pure.

Counted, as two a multiply-add: matrix products (linear layers, patch embedding) and the two products of attention.
Causal attention counts the pairs that are needed, no masked ones; windowed attention its windows. Padding, norms,
rotary embeddings, softmax and elementwise products count nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ImageGroup:
    """One image and the prompts on it that are read together; lengths in tokens."""

    grid: tuple[int, int, int]  # frames, height and width in patches
    prompts: tuple[int, ...]  # length of each prompt
    shared: int  # leading tokens that all of them share


def three_passes(config: Any, group: ImageGroup, new_tokens: int) -> int:
    """`generate` (with `new_tokens` only), the vision tower alone, a forward with all logits: for every prompt."""
    total = 0
    for tokens in group.prompts:
        total += 2 * vision_tower(config, group.grid) + decoder(config, tokens) + language_head(config, tokens)
        if new_tokens:
            total += vision_tower(config, group.grid) + decoder(config, tokens) + language_head(config, 1)
            total += further_tokens(config, tokens, new_tokens)
    return total


def plain_batching(config: Any, group: ImageGroup, new_tokens: int) -> int:
    """The vision tower once an image of a batch, every prompt as a whole, logits of its last token."""
    total = vision_tower(config, group.grid)
    for tokens in group.prompts:
        total += decoder(config, tokens, read=2) + language_head(config, 1)
        total += further_tokens(config, tokens, new_tokens)
    return total


def shared_prefix(config: Any, group: ImageGroup, new_tokens: int) -> int:
    """The vision tower and the shared tokens once an image, then what is left of every prompt."""
    total = vision_tower(config, group.grid) + decoder(config, group.shared, read=1)
    for tokens in group.prompts:
        total += decoder(config, tokens - group.shared, past=group.shared, read=1) + language_head(config, 1)
        total += further_tokens(config, tokens, new_tokens)
    return total


def further_tokens(config: Any, prompt: int, new_tokens: int) -> int:
    """A greedy answer after its prompt was read, which gave the first token: a step for each further one."""
    steps = range(prompt, prompt + new_tokens - 1)
    return sum(decoder(config, 1, past=past) + language_head(config, 1) for past in steps)


def decoder(config: Any, new: int, past: int = 0, *, read: int | None = None) -> int:
    """All decoder blocks for `new` tokens after `past` ones in the cache.

    Where only `read` of them are read at the end (None = all), the last block's MLP needs no others.
    """
    text = config.get_text_config()
    width, head = text.hidden_size, text.hidden_size // text.num_attention_heads
    attention = 2 * width * (width + text.num_key_value_heads * head)  # query and output, key and value
    mlp = 3 * width * text.intermediate_size
    pairs = new * past + new * (new + 1) // 2  # each token sees itself and all before it
    void = 0 if read is None else new - read
    return text.num_hidden_layers * (2 * new * (attention + mlp) + attention_products(pairs, width)) - 2 * void * mlp


def language_head(config: Any, tokens: int) -> int:
    """Logits of `tokens` positions."""
    text = config.get_text_config()
    return 2 * tokens * text.hidden_size * text.vocab_size


def vision_tower(config: Any, grid: tuple[int, int, int]) -> int:
    """Patch embedding, blocks and merger for one image."""
    vision = config.vision_config
    frames, height, width = grid
    patches, dim, merged = frames * height * width, vision.hidden_size, vision.spatial_merge_size**2
    embedding = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2 * dim
    block = 4 * dim * dim + 3 * dim * vision.intermediate_size
    merger = (merged * dim) ** 2 + merged * dim * vision.out_hidden_size
    full = len(set(vision.fullatt_block_indexes) & set(range(vision.depth)))
    pairs = full * frames * (height * width) ** 2 + (vision.depth - full) * frames * _window_pairs(
        vision, height, width
    )
    linear = patches * (embedding + vision.depth * block) + patches // merged * merger
    return 2 * linear + attention_products(pairs, dim)


def attention_products(pairs: int, width: int) -> int:
    """Scores and the weighted sum of values, for this many (query, key) pairs over all heads together."""
    return 4 * pairs * width


def _window_pairs(vision: Any, height: int, width: int) -> int:
    """(query, key) pairs of one frame's windows; those at the lower and right edges are what is left."""
    side = vision.window_size // vision.patch_size
    sides = [[side] * (length // side) + [length % side] for length in (height, width)]
    rows, columns = (sum(length**2 for length in lengths) for lengths in sides)
    return rows * columns
