"""Muse: pictures of any shape as packed patches, a vision tower that looks through windows."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.models.families.defaults import PLAIN
from halp_probe.models.family import Family, Notes

ROWS: dict[str, Family] = {
    "muse_glimmer": replace(
        PLAIN,
        notes=Notes(
            checkpoint="meta-models/Muse-Glimmer-30B",
            vision_only="mean over the image's tokens as they enter the decoder, each normed to one length",
            vision_encoder="mean over the patches after the tower's last norm, before the pixel shuffle",
            vision_token="the last <|patch|>, in front of <|image_end|>",
            attention="causal; three blocks of four look through a window, the fourth knows no positions",
        ),
        projector="model.vision_adapter",
        encoder="model.vision_tower.ln_post",
        image_inputs=("pixel_values", "image_grid_thw"),
        images_together=True,
        packed_tower="model.vision_tower",
    ),
}
