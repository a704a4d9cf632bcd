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


def regrouped(config: Any, read: list[Any], _inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """A pixel shuffle put several patches side by side; apart again, in another order, which no mean minds."""
    width = config.vision_config.hidden_size
    return torch.cat([states.reshape(-1, width) for states in read])


def whole_patches(config: Any, read: list[Any], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Patches without padding: a smaller tile stands in the upper left corner of a frame as large as the largest."""
    side = config.vision_config.patch_size
    pixels = inputs["pixel_attention_mask"].flatten(0, 1)  # [tiles, height, width]
    real = pixels[:, side - 1 :: side, side - 1 :: side].flatten(1).bool()  # [tiles, patches], by the last pixel of each
    states = torch.cat(read)
    if len(states) != len(real):
        raise RuntimeError(f"the vision tower left out {len(real) - len(states)} of {len(real)} tiles")
    return states[real]
