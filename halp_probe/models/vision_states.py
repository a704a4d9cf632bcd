"""From what a hook read at the vision encoder's end to its states, one a patch: the functions in the families' rows.

Each takes the config, what the hook read in each of its calls, and the image inputs, and returns [patches, V] for the
images of one call of the tower, in order. V is the encoder's own width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def all_positions(_config: Any, read: list[Any], _inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Every position that was read: tiles and patches in order."""
    return torch.cat([states.flatten(0, -2) for states in read])


def pooled_patches(_config: Any, read: list[Any], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Of tiles that overlap, the patches that are pooled into image tokens; -1 stands for no patch."""
    pooling = inputs["image_token_pooling"]
    return torch.cat([states.flatten(0, -2) for states in read])[pooling[pooling >= 0]]


def shown_patches(_config: Any, read: list[Any], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Every patch but the padding behind an image's own, whose place in the picture is -1."""
    shown = (inputs["image_position_ids"] >= 0).all(-1)
    return torch.cat([states[shown.to(states.device)] for states in read])


def regrouped(config: Any, read: list[Any], _inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """A pixel shuffle put several patches side by side; apart again, in another order, which no mean minds."""
    width = config.vision_config.hidden_size
    return torch.cat([states.reshape(-1, width) for states in read])


def last_hidden_state(_config: Any, read: list[Any], _inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What the tower returns before any projector: every position, tiles and patches in order."""
    return torch.cat([output.last_hidden_state.flatten(0, -2) for output in read])


def filled_tiles(_config: Any, read: list[Any], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Every position of the tiles that the image fills: the tower takes a fixed number, empty ones too."""
    (states,) = read  # [I, tiles, N, V]
    filled: torch.Tensor = states[inputs["aspect_ratio_mask"][:, 0].bool()]
    return filled.flatten(0, 1)


def maps_without_padding(_config: Any, read: list[Any], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The positions of the crops' maps [crops, V, rows, columns] where the image is, by its mask."""
    (maps,) = read
    patches: torch.Tensor = maps.movedim(1, -1)[inputs["image_attention_mask"][0].bool()]
    return patches


def channels_first(_config: Any, read: list[Any], _inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What was read is a map, [images, V, rows, columns]."""
    return torch.cat([states.flatten(2).transpose(1, 2).flatten(0, 1) for states in read])


def whole_patches(config: Any, read: list[Any], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Patches without padding: a smaller tile stands in the upper left corner of a frame as large as the largest."""
    side = config.vision_config.patch_size
    pixels = inputs["pixel_attention_mask"].flatten(0, 1)  # [tiles, height, width]
    return _real(torch.cat(read), pixels[:, side - 1 :: side, side - 1 :: side])  # the last pixel of each patch


def touched_patches(config: Any, read: list[Any], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Patches that are not padding alone: a picture stands in the upper left corner of a square."""
    side = config.vision_config.patch_size
    return _real(torch.cat(read), inputs["pixel_mask"][:, ::side, ::side])  # the first pixel of each patch


def _real(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """States [tiles, patches, V] where the mask [tiles, rows, columns] is set."""
    return states[mask.flatten(1).bool()]
