"""Convert what a hook read at the vision encoder's end to states, one a patch: functions for the rows of families.

Each takes the config, the hook's reading in each call, and the image inputs, and returns [patches, V] for the images of
one call of the tower, in order. V is the encoder's own width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def all_positions(_config: Any, read: list[Any], _inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return all positions that were read: tiles and patches in order."""
    return torch.cat([states.flatten(0, -2) for states in read])


def pooled_patches(_config: Any, read: list[Any], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the patches of overlapping tiles that are pooled into image tokens; index -1 means no patch."""
    pooling = inputs["image_token_pooling"]
    return torch.cat([states.flatten(0, -2) for states in read])[pooling[pooling >= 0]]


def shown_patches(_config: Any, read: list[Any], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return all patches but the padding after an image's own, whose position in the picture is -1."""
    shown = (inputs["image_position_ids"] >= 0).all(-1)
    return torch.cat([states[shown.to(states.device)] for states in read])


def unmasked_patches(_config: Any, read: list[Any], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the patches [tiles, patches, V] that `pixel_attention_mask` [tiles, patches] does not call padding."""
    return _real(torch.cat(read), inputs["pixel_attention_mask"])


def unshuffled_patches(config: Any, read: list[Any], _inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Separate patches that a pixel shuffle joined, in another order, which does not change a mean."""
    width = config.vision_config.hidden_size
    return torch.cat([states.reshape(-1, width) for states in read])


def last_hidden_state(_config: Any, read: list[Any], _inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return all positions of the tower's output before any projector: tiles and patches in order."""
    return torch.cat([output.last_hidden_state.flatten(0, -2) for output in read])


def filled_tiles(_config: Any, read: list[Any], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return all positions of the tiles that the image fills: the tower takes a fixed number of tiles."""
    (states,) = read  # [I, tiles, N, V]
    filled: torch.Tensor = states[inputs["aspect_ratio_mask"][:, 0].bool()]
    return filled.flatten(0, 1)


def maps_without_padding(_config: Any, read: list[Any], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the positions of the crops' maps [crops, V, rows, columns] that the image's mask covers."""
    (maps,) = read
    patches: torch.Tensor = maps.movedim(1, -1)[inputs["image_attention_mask"][0].bool()]
    return patches


def channels_first(_config: Any, read: list[Any], _inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the cells of a map [images, V, rows, columns]."""
    return torch.cat([states.flatten(2).transpose(1, 2).flatten(0, 1) for states in read])


def whole_patches(config: Any, read: list[Any], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return patches without padding: a smaller tile stands in the upper left corner of the largest one's frame."""
    side = config.vision_config.patch_size
    pixels = inputs["pixel_attention_mask"].flatten(0, 1)  # [tiles, height, width]
    return _real(torch.cat(read), pixels[:, side - 1 :: side, side - 1 :: side])  # the last pixel of each patch


def touched_patches(config: Any, read: list[Any], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return patches that are not padding only: a picture stands in the upper left corner of a square."""
    side = config.vision_config.patch_size
    return _real(torch.cat(read), inputs["pixel_mask"][:, ::side, ::side])  # the first pixel of each patch


def _real(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Select the states [tiles, patches, V] where the mask [tiles, rows, columns] is set."""
    return states[mask.flatten(1).bool().to(states.device)]
