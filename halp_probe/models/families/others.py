"""Families that stand for themselves."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.models.families.defaults import PLAIN, RECURRENT
from halp_probe.models.family import Family, Notes

ROWS: dict[str, Family] = {
    "lfm2_vl": replace(
        PLAIN,
        notes=Notes(
            "LiquidAI/LFM2-VL-1.6B",
            vision_only="mean over the image tokens of all tiles and of the thumbnail (of a large picture), as they "
            "enter the decoder; the markers between tiles are text",
            vision_encoder="mean over the patches of all tiles and of the thumbnail, after the tower's last norm and "
            "before the pixel unshuffle; padding patches are left out",
            vision_token="the last image token: of the thumbnail, where a large picture is cut into tiles",
            attention="causal; most blocks are short convolutions over the two tokens before",
        ),
        feed_forward="feed_forward",
        image_inputs=("pixel_values", "spatial_shapes", "pixel_attention_mask"),
        unshared=RECURRENT,
        right_padding=False,
    ),
    "ovis2": replace(
        PLAIN,
        notes=Notes(
            "thisisiron/Ovis2-2B-hf",
            vision_only="mean over the image tokens (<IMG_ATOM>) of the whole picture and of its tiles, as they enter "
            "the decoder: each a mixture of rows of the visual embedding table; the marks between them are left out",
            vision_encoder="mean over the patches of the whole picture and of its tiles, after the tower's last norm "
            "and before its head",
            vision_token="the last image token: of the last tile, or of the whole picture where there are no tiles",
            oddities="the marks around tiles (<IMG_START>, <IMG_GRID>, …) have visual embeddings, the same in every "
            "picture",
        ),
        encoder="model.vision_tower.transformer.rms_norm",
        image_marks="visual_indicator_token_ids",
    ),
}
