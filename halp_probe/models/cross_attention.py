"""Images that enter by cross-attention, not as tokens: their features, and the masks of who attends to them.

Legend: I images, B prompts, T tokens, N states of a tile (class token and patches), D decoder width, V vision width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from halp_probe.models.image_entry import ImageArguments


@dataclass(frozen=True, kw_only=True)
class CrossFeatures:
    """Features of I images, to which the decoder attends."""

    pooler_output: torch.Tensor  # [tiles that images fill, N, D], over all images
    cross_attention_states: torch.Tensor  # [I, tiles * N, D], with the tiles that no image fills
    tile_mask: torch.Tensor  # [I, tiles], 1 where the image fills the tile


def cross_features(model: Any, inputs: Mapping[str, torch.Tensor]) -> CrossFeatures:
    """Run Mllama's own tower and projector; it has no `get_image_features`."""
    inner = model.model
    states = inner.vision_model(**inputs).last_hidden_state[:, 0]  # [I, tiles, N, V]: a prompt has one image
    projected = inner.multi_modal_projector(states)  # [I, tiles, N, D]
    mask = inputs["aspect_ratio_mask"][:, 0]
    return CrossFeatures(
        pooler_output=projected[mask.bool()], cross_attention_states=projected.flatten(1, 2), tile_mask=mask
    )


@contextmanager
def attend_to_images(
    model: Any, features: CrossFeatures, _images: Mapping[str, torch.Tensor], inputs: Mapping[str, torch.Tensor]
) -> Iterator[ImageArguments]:
    """Let the image token and all later tokens attend to the tiles that the image fills, as the processor's mask says.

    The cross-attention layers keep the image in the cache, so later tokens only need the mask.
    """
    image_started = (inputs["input_ids"] == model.config.image_token_id).cumsum(1).bool()  # [B, T]
    tiles = features.tile_mask[:, None, None]  # [B, 1, 1 image, tiles]
    yield ImageArguments(
        now={
            "cross_attention_states": features.cross_attention_states,
            "cross_attention_mask": image_started[:, :, None, None] * tiles,
        },
        later={"cross_attention_mask": tiles},
    )
