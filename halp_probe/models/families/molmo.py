"""Molmo: a low and a high resolution view of each picture, and markers of rows among its tokens."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.models.families.defaults import PLAIN
from halp_probe.models.family import Family, Notes, TokenTypes
from halp_probe.models.vision_states import pooled_patches

ROWS: dict[str, Family] = {
    "molmo2": replace(
        PLAIN,
        notes=Notes(
            checkpoint="allenai/Molmo2-8B",
            vision_only="mean over the pooled features of both views, before they are added to the embedding of their "
            "placeholder <im_patch> (which adds the same vector to every one)",
            vision_encoder="mean over the patches that are pooled into image tokens, of the whole picture and of its "
            "tiles without their overlap: two blocks of the tower side by side, so twice its width",
            vision_token="the last <im_patch>, of the last row of the high resolution view; it sees the two markers "
            "behind it (<im_col>, <im_end>)",
            attention="causal, and among all tokens of the image, its markers included, both ways; never the question",
            oddities="row and view markers are tokens between the image tokens, and no image tokens",
        ),
        vision_states=pooled_patches,
        image_inputs=("pixel_values", "image_token_pooling", "image_grids"),
        unused_outputs=("image_num_crops",),
        token_types=TokenTypes(name="mm_token_type_ids", for_decoder=True, padding=0, block=1),  # 1 = image and markers
    ),
}
