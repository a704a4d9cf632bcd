"""Kimi: a vision tower for pictures of any shape, a mixture of experts as the decoder."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.models.families.defaults import PLAIN
from halp_probe.models.family import Family, Notes

ROWS: dict[str, Family] = {
    "kimi_k25": replace(
        PLAIN,
        notes=Notes(
            checkpoint="moonshotai/Kimi-K2.6",
            vision_encoder="mean over the patches of the vision tower's output, those among them that pad the picture "
            "on its right and below to whole image tokens",
            oddities="the projector merges 2 × 2 patches into an image token; where the chat template opens <think>, "
            "the first answer token is the thinking's",
        ),
        projector="model.mm_projector",
        image_inputs=("pixel_values", "image_grid_thw"),
        images_together=True,
    ),
}
