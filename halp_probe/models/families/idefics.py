"""Idefics 2 and 3 and SmolVLM: a picture as tiles and the whole of it, each tile with image tokens of its own."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.models.families.defaults import PLAIN
from halp_probe.models.family import Family, Notes
from halp_probe.models.image_entry import pooled_features_of_every_tile
from halp_probe.models.vision_states import whole_patches

_IDEFICS = replace(
    PLAIN,
    features=pooled_features_of_every_tile,
    decoder_blocks="model.text_model.layers",
    projector="model.connector",
    image_inputs=("pixel_values", "pixel_attention_mask"),
)
_SHUFFLED = Notes(
    checkpoint="HuggingFaceM4/Idefics3-8B-Llama3",
    vision_only="mean over the image tokens of all tiles and of the whole picture, as they enter the decoder; a tile's "
    "markers (<fake_token_around_image>, <row_1_col_1>, <global-img>) are text",
    vision_encoder="mean over the patches of all tiles and of the whole picture, after the tower's last norm and "
    "before the pixel shuffle",
    vision_token="the last image token of the whole picture, which stands behind the tiles",
)

ROWS: dict[str, Family] = {
    "smolvlm": replace(_IDEFICS, notes=replace(_SHUFFLED, checkpoint="HuggingFaceTB/SmolVLM2-2.2B-Instruct")),
    "idefics3": replace(_IDEFICS, notes=_SHUFFLED),
    "idefics2": replace(
        _IDEFICS,
        notes=Notes(
            checkpoint="HuggingFaceM4/idefics2-8b",
            vision_only="mean over the image tokens of the four quarters (where the processor splits) and of the whole "
            "picture, as they enter the decoder: 64 latents of the resampler each",
            vision_encoder="mean over the patches of the quarters and of the whole picture, after the tower's last "
            "norm; patches that hold padding are left out",
            vision_token="the last image token of the whole picture, which stands behind the quarters",
        ),
        projector="model.connector.modality_projection",
        vision_states=whole_patches,
    ),
    "granite_docling": replace(
        PLAIN,
        notes=Notes(
            checkpoint="ibm-granite/granite-for-docling-500m",
            vision_only="mean over the image tokens of all tiles and of the whole picture, as the connector gives them "
            "and before the decoder multiplies all embeddings by its `embedding_multiplier`; markers are text",
            vision_encoder=_SHUFFLED.vision_encoder,
            vision_token=_SHUFFLED.vision_token,
            oddities="made for reading documents; DeepStack adds to the image positions after the first blocks: a "
            "state is read before that",
        ),
        decoder_blocks="model.text_model.layers",
        projector="model.vision_model.connector",
        encoder="model.vision_model.post_layernorm",
        image_inputs=("pixel_values", "pixel_attention_mask"),
    ),
}
