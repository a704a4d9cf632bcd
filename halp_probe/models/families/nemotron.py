"""Nemotron 3 Omni: pictures of any shape, a decoder of Mamba, attention and experts."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.models.families.defaults import EXPERTS, PLAIN, RECURRENT
from halp_probe.models.family import Family, Notes
from halp_probe.models.vision_states import unshuffled_patches

ROWS: dict[str, Family] = {
    "nemotron_h_omni": replace(
        PLAIN,
        notes=Notes(
            checkpoint="nvidia/Nemotron-3-Nano-Omni-30B-A3B-Reasoning-BF16",
            vision_encoder="mean over the patches of the vision tower's output (after a last norm where the checkpoint "
            "has one), without class and register tokens",
            attention="causal; most blocks that mix tokens are recurrent (Mamba 2)",
            oddities="a block is one of Mamba, attention, a feed-forward network or a mixture of experts, not two of "
            f"them: *layer k* counts them all; sounds are not used; {EXPERTS}",
        ),
        decoder_blocks="language_model.model.layers",
        feed_forward=None,  # the last block may be any kind
        projector="multi_modal_projector",
        vision_states=unshuffled_patches,
        image_inputs=("pixel_values", "image_grid_hw"),
        unshared=RECURRENT,
        right_padding=False,
    ),
}
