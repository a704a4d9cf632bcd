"""Families without relatives in the table."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.models.families.defaults import PLAIN, RECURRENT
from halp_probe.models.family import Family, Notes
from halp_probe.models.image_entry import pooled_features, pooled_features_of_layer
from halp_probe.models.vision_states import touched_patches, unmasked_patches

_DEEPSEEK = replace(PLAIN, projector="model.aligner", images_together=True)

ROWS: dict[str, Family] = {
    "lfm2_vl": replace(
        PLAIN,
        notes=Notes(
            checkpoint="LiquidAI/LFM2-VL-1.6B",
            vision_only="mean over the image tokens of all tiles and of the thumbnail (of a large picture), as they "
            "enter the decoder; the markers between tiles are text",
            vision_encoder="mean over the patches of all tiles and of the thumbnail, after the tower's last norm and "
            "before the pixel unshuffle; padding patches are left out",
            vision_token="the last image token: of the thumbnail, where a large picture is cut into tiles",
            attention="causal; most blocks are short convolutions over the two tokens before",
        ),
        feed_forward="feed_forward",
        encoder="model.vision_tower.post_layernorm",  # from transformers 5.24 on, the projector reads padding as well
        vision_states=unmasked_patches,
        image_inputs=("pixel_values", "spatial_shapes", "pixel_attention_mask"),
        unshared=RECURRENT,
        right_padding=False,
    ),
    "lfm3_vl": replace(
        PLAIN,
        notes=Notes(
            checkpoint="LiquidAI/LFM3-VL-2B",
            vision_encoder="mean over the patches of the last block, before the projector's norm",
            attention="causal; many blocks are short convolutions or look through a sliding window",
        ),
        feed_forward="feed_forward",
        image_inputs=("pixel_values", "image_grid_thw"),
        area_bounds=True,
        images_together=True,
        unshared=RECURRENT,
        right_padding=False,
    ),
    "ovis2": replace(
        PLAIN,
        notes=Notes(
            checkpoint="thisisiron/Ovis2-2B-hf",
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
    "janus": replace(
        _DEEPSEEK,
        notes=Notes(
            checkpoint="deepseek-community/Janus-Pro-7B",
            vision_encoder="mean over the patches of the last block, after the tower's last norm",
            oddities="the part that makes pictures is not used; a guidance scale in its generation_config is for it",
        ),
        ignored_generation=("guidance_scale",),
    ),
    "deepseek_vl": replace(
        _DEEPSEEK,
        notes=Notes(
            checkpoint="deepseek-community/deepseek-vl-1.3b-chat",
            vision_encoder="mean over the patches of the last block, after the tower's last norm",
        ),
    ),
    "deepseek_vl_hybrid": replace(
        _DEEPSEEK,
        notes=Notes(
            checkpoint="deepseek-community/deepseek-vl-7b-chat",
            vision_encoder="mean over the patches of the tower for low resolution (SigLIP) alone, after its last norm; "
            "the one for high resolution (SAM) is in vision_only",
            oddities="two towers look at two sizes of the picture; each image token is made of both",
        ),
        image_inputs=("pixel_values", "high_res_pixel_values"),
    ),
    "perception_lm": replace(
        PLAIN,
        notes=Notes(
            checkpoint="facebook/Perception-LM-1B",
            vision_only="mean over the image tokens of the thumbnail and of all tiles, as they enter the decoder",
            vision_encoder="mean over the patches of the thumbnail and of all tiles as the projector reads them: "
            "before its pooling, without the class token",
            vision_token="the last image token: of the last tile",
            oddities="the vision tower is a model of timm",
        ),
        features=pooled_features,
    ),
    "aria": replace(
        PLAIN,
        notes=Notes(
            checkpoint="rhymes-ai/Aria",
            vision_only="mean over the image tokens, as they enter the decoder: 256 latents of the projector for each "
            "crop of 980 × 980 pixels (128 for 490 × 490)",
            vision_encoder="mean over the patches of the block that the projector reads, before the tower's last norm; "
            "patches of padding alone are left out",
            oddities="a mixture of experts",
        ),
        features=pooled_features_of_layer,
        vision_states=touched_patches,
        image_inputs=("pixel_values", "pixel_mask"),
    ),
}
