"""Readers of documents: pictures of pages, many tokens."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.models.families.defaults import PLAIN
from halp_probe.models.family import Family, Notes
from halp_probe.models.vision_states import unshuffled_patches

ROWS: dict[str, Family] = {
    "lighton_ocr": replace(
        PLAIN,
        notes=Notes(
            checkpoint="lightonai/LightOnOCR-1B-1025",
            oddities="pictures of any shape; the projector merges 2 × 2 patches into an image token",
        ),
        projector="model.vision_projection",
        image_inputs=("pixel_values", "image_sizes"),
    ),
    "qianfan_ocr": replace(
        PLAIN,
        notes=Notes(
            checkpoint="baidu/Qianfan-OCR",
            vision_encoder="mean over the patches of the vision tower's output, of tiles and thumbnail alike, without "
            "class tokens",
            oddities="a picture becomes tiles, and a thumbnail last where there are several; a pixel shuffle puts "
            "2 × 2 patches into an image token",
        ),
        vision_states=unshuffled_patches,
    ),
}
