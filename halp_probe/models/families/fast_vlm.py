"""FastVLM: a convolutional vision tower of timm's (the extra `timm`) that gives few tokens."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.models.families.defaults import PLAIN
from halp_probe.models.family import Family, Notes
from halp_probe.models.image_entry import pooled_features

ROWS: dict[str, Family] = {
    "fast_vlm": replace(
        PLAIN,
        notes=Notes(
            checkpoint="KamilaMila/FastVLM-7B",
            vision_encoder="mean over the cells of the tower's last feature map, one a token (16 × 16 of a picture of "
            "1024 × 1024 pixels)",
            oddities="the vision tower is timm's FastViT, mostly convolutions: pip install 'halp_probe[timm]'",
        ),
        features=pooled_features,
        images_together=True,
    ),
}
