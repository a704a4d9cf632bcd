"""Decoders whose blocks pass on several residual streams beside each other, and an indexer's choice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from halp_probe.models.families.defaults import EXPERTS, MROPE, PLAIN, RECURRENT
from halp_probe.models.families.glm import ROWS as GLM
from halp_probe.models.family import Family, Notes

if TYPE_CHECKING:
    import torch


def _side_by_side(output: Any) -> torch.Tensor:
    """Return [B, T, streams · D] of the output ([B, T, streams, D], …) of a block."""
    streams: torch.Tensor = output[0]
    return streams.flatten(2)


_STREAMS = (
    "blocks work on several residual streams (`hc_mult`, 4 as published): a state is all of them side by side, so that "
    "many times as wide as the decoder; none is the first among them, all begin as the token's embedding"
)

ROWS: dict[str, Family] = {
    "hy_v4_vl": replace(
        MROPE,
        notes=Notes(
            checkpoint="tencent/Hy4",
            vision_only="mean over the image's tokens as they enter the decoder, a learned newline behind each row "
            "among them",
            vision_token="the last image token: the newline that ends the last row",
            attention="causal, to the 2048 tokens that an indexer chooses for each",
            oddities=f"{_STREAMS}; {EXPERTS}",
        ),
        block_states=_side_by_side,
        projector="model.vision_tower.patch_merger",
        images_together=False,  # how many patches become a token differs from image to image
    ),
    "glm5_next": replace(
        PLAIN,
        notes=Notes(
            checkpoint="zai-org/GLM-5.3-Flash",
            vision_encoder=GLM["glm_ocr"].notes.vision_encoder,
            attention="causal; three blocks of four are recurrent (gated delta rule), the fourth reads the groups of "
            "tokens that an indexer chooses",
            oddities=f"{_STREAMS}; there are no positions; where the model thinks first, the first answer token is "
            f"<think>; {EXPERTS}",
        ),
        block_states=_side_by_side,
        projector="model.visual.merger",
        encoder="model.visual.post_layernorm",
        image_inputs=("pixel_values", "image_grid_thw"),
        images_together=True,
        unused_outputs=("mm_token_type_ids",),
        unshared=RECURRENT,
        right_padding=False,
    ),
}
