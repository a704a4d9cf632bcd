"""Default rows that most families start from, and constants that several use."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from halp_probe.models.family import Family, Notes, TokenTypes, mrope_positions
from halp_probe.models.image_entry import image_features, pass_features
from halp_probe.models.vision_states import all_positions

if TYPE_CHECKING:
    import torch

PREFIX_LM = "in this family image tokens see the question (prefix-LM)"
RECURRENT = "its recurrent layers would read the padding between image and question"
EXPERTS = "mixture of experts: in half precision, rounding may choose another expert"


def first_output(output: Any) -> torch.Tensor:
    """Return the states [B, T, D] of a block that returns something behind them."""
    states: torch.Tensor = output[0]
    return states


MM_TOKEN_TYPES = TokenTypes(name="mm_token_type_ids", for_decoder=False, padding=0)  # 1 = image

PLAIN = Family(  # attention is causal, also among image tokens; positions count the tokens
    notes=Notes(checkpoint="llava-hf/llava-1.5-7b-hf"),
    features=image_features,
    entry=pass_features,
    vision_states=all_positions,
)
MROPE = replace(  # three-dimensional positions; pictures are packed patches of any number
    PLAIN,
    image_inputs=("pixel_values", "image_grid_thw"),
    images_together=True,
    token_types=MM_TOKEN_TYPES,
    positions=mrope_positions,
    position_axes=3,
    position_inputs=("image_grid_thw",),
)
