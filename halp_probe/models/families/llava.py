"""LLaVA and its relatives: a vision transformer, a projector, a causal language model."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.models.families.defaults import EXPERTS, PLAIN, first_output
from halp_probe.models.family import Family, Notes
from halp_probe.models.image_entry import injected_features, pass_injected, pass_unprojected, unprojected_features
from halp_probe.models.vision_states import channels_first, unshuffled_patches

TILES_AND_NEWLINES = (
    "mean over the image's tokens as they enter the decoder: the overview's, the tiles' without their padded border, "
    "and a learned newline behind each row of the tiles"
)
PADDED_TILES = "mean over the patches of overview and tiles, padded border included, of the block the projector reads"
TILES_AND_OVERVIEW = "mean over the image's tokens as they enter the decoder: the tiles', then the overview's"

_GOT = replace(
    PLAIN,
    notes=Notes(
        checkpoint="stepfun-ai/GOT-OCR-2.0-hf",
        vision_encoder="mean over the places of the tower's neck, in front of the convolutions to fewer tokens",
        vision_token="the last image token, in front of </img>",
        oddities="made for reading text; its checkpoint has no chat template: add one",
    ),
    images_together=True,
    vision_states=channels_first,
    several_images="its processor takes several for pages of one",
    text_only="its processor refuses it",
)

ROWS: dict[str, Family] = {
    "llava": replace(
        PLAIN,
        notes=Notes(
            checkpoint="llava-hf/llava-1.5-7b-hf",
            vision_encoder=f"{PLAIN.notes.vision_encoder}; behind the tower's final LayerNorm where "
            "`vision_config.tie_last_hidden_states` is true",
            oddities="the class token is left out before the projector where `vision_feature_select_strategy` is "
            "default; where it is full, as in models of `halp-probe fuse`, that of a ViT or CLIP is the first of the "
            "image's tokens and in both vision means; with Pixtral's tower (mistral-community/pixtral-12b) there is "
            "none, and [IMG_BREAK] and [IMG_END] stand between the image tokens and behind them, as text",
        ),
        optional_image_inputs=("image_sizes",),  # of Pixtral, whose tower lets one picture after the other attend alone
        images_together=True,
    ),
    "vipllava": replace(
        PLAIN,
        notes=Notes(
            checkpoint="llava-hf/vip-llava-7b-hf",
            vision_encoder="mean over the patches; five blocks' states of a patch side by side, as the projector reads",
            oddities="the class token is left out before the projector",
        ),
        images_together=True,
    ),
    "llava_next": replace(
        PLAIN,
        notes=Notes(
            checkpoint="llava-hf/llava-v1.6-mistral-7b-hf",
            vision_only=TILES_AND_NEWLINES,
            vision_encoder=PADDED_TILES,
            vision_token="the last image token: the newline that ends the tiles' last row",
            oddities="the class token is left out before the projector (SigLIP's tower has none; Granite Vision reads "
            "several of its blocks' states side by side); tiles keep the picture's shape, the overview is stretched to "
            "the square",
        ),
        image_inputs=("pixel_values", "image_sizes"),
    ),
    "llava_next_video": replace(
        PLAIN,
        notes=Notes(
            checkpoint="llava-hf/LLaVA-NeXT-Video-7B-hf",
            vision_only=TILES_AND_NEWLINES,
            vision_encoder=PADDED_TILES,
            vision_token="the last image token: the newline that ends the tiles' last row",
            oddities="a LLaVA-NeXT as far as pictures go; the class token is left out before the projector",
        ),
        image_inputs=("pixel_values", "image_sizes"),
    ),
    "video_llava": replace(
        PLAIN,
        notes=Notes(
            checkpoint="LanguageBind/Video-LLaVA-7B-hf",
            oddities="two towers, of which pictures see the one for pictures; the class token is left out before the "
            "projector",
        ),
        image_inputs=("pixel_values_images",),
        images_together=True,
    ),
    "llava_onevision": replace(
        PLAIN,
        notes=Notes(
            checkpoint="llava-hf/llava-onevision-qwen2-7b-ov-hf",
            vision_only=TILES_AND_NEWLINES,
            vision_encoder=PADDED_TILES,
            vision_token="the last image token: the newline that ends the tiles' last row",
            oddities="after the projector many tiles are shrunk to fewer tokens",
        ),
        image_inputs=("pixel_values", "image_sizes", "batch_num_images"),
    ),
    "internvl": replace(
        PLAIN,
        notes=Notes(
            checkpoint="OpenGVLab/InternVL3-8B-hf",
            vision_only=TILES_AND_OVERVIEW,
            vision_encoder="mean over the patches of tiles and overview of the tower's last block, as the pixel "
            "shuffle takes them",
            vision_token="the last image token: the overview's last, in front of </img>",
            oddities="the class token is left out before the projector; four patches become one image token",
        ),
        vision_states=unshuffled_patches,
    ),
    "aya_vision": replace(
        PLAIN,
        notes=Notes(
            checkpoint="CohereLabs/aya-vision-8b",
            vision_only=TILES_AND_OVERVIEW,
            vision_encoder="mean over the patches of tiles and overview of the block that the projector reads",
            vision_token="the last <|IMG_PATCH|>: the overview's last, in front of <|END_OF_IMG|>",
            oddities="four patches become one image token; tile names stand as text between the tiles",
        ),
    ),
    "cohere2_vision": replace(
        PLAIN,
        notes=Notes(
            checkpoint="CohereLabs/command-a-vision-07-2025",
            vision_only=TILES_AND_OVERVIEW,
            vision_encoder="mean over the patches of tiles and overview of the tower's last block, normed",
            vision_token="the last <|IMG_PATCH|>: the overview's last, in front of a line break and <|END_OF_IMG|>",
            oddities="four patches become one image token; a line break token ends each tile",
        ),
    ),
    "mistral3": replace(
        PLAIN,
        notes=Notes(
            checkpoint="mistralai/Mistral-Small-3.1-24B-Instruct-2503",
            vision_only="mean over the [IMG] tokens as they enter the decoder, not the [IMG_BREAK] between them",
            vision_token="the last [IMG]; an [IMG_END] follows",
            oddities="four patches become one image token; the projector's norm comes after vision_encoder; the "
            "checkpoint's chat template writes the day's date: that of the run's beginning",
        ),
        image_inputs=("pixel_values", "image_sizes"),
    ),
    "llama4": replace(
        PLAIN,
        notes=Notes(
            checkpoint="meta-llama/Llama-4-Scout-17B-16E-Instruct",
            vision_only="mean over the <|patch|> tokens as they enter the decoder: the tiles', then the overview's",
            vision_encoder="mean over the patches of tiles and overview of the tower's last block, normed",
            vision_token="the last <|patch|>: the overview's last, in front of <|image_end|>",
            oddities="the class token is left out; four patches become one image token; blocks with rotary positions "
            "attend within chunks of 8192 tokens, the others' queries grow there with the column in the batch, padding "
            "included: longer prompts are refused",
        ),
        features=unprojected_features,
        entry=pass_unprojected,
        decoder_blocks="language_model.model.layers",
        feed_forward=None,  # experts, which give their routing as well
        column_limit="floor_scale",
        projector="vision_model.vision_adapter",  # the first half of it
    ),
    "granite4_vision": replace(
        PLAIN,
        notes=Notes(
            checkpoint="ibm-granite/granite-4.0-3b-vision",
            vision_only="mean over the image's tokens as the first features are added to them, in front of block 0: "
            "overview, tiles without their padded border, a learned newline behind each row of the tiles",
            vision_encoder="mean over the patches of overview and tiles, padded border included, of the block that the "
            "spatial projectors read: the tower's last",
            vision_token="the last image token: the newline that ends the tiles' last row",
            oddities="image tokens are zero at first; features of several of the tower's blocks are added to them in "
            "front of several of the decoder's: a state is read before that of the next block",
        ),
        features=injected_features,
        entry=pass_injected,
        projector="model.spatial_projectors.0",
        text_only="it keeps no cache without one",
        image_inputs=("pixel_values", "image_sizes"),
    ),
    "mistral_large4": replace(
        PLAIN,
        notes=Notes(
            checkpoint="mistralai/Mistral-Large-4-1T-A52B",
            vision_only="mean over the [IMG] tokens as they enter the decoder, not the [IMG_BREAK] between them",
            vision_token="the last [IMG]; an [IMG_END] follows",
            attention="causal, to the 2048 tokens that an indexer chooses for each",
            oddities="four patches become one image token; in half precision, rounding may choose other tokens; "
            + EXPERTS,
        ),
        block_states=first_output,
        image_inputs=("pixel_values", "image_sizes"),
    ),
    "got_ocr2": _GOT,
    "pp_chart2table": replace(
        _GOT,
        notes=replace(
            _GOT.notes,
            checkpoint="PaddlePaddle/PP-Chart2Table_safetensors",
            oddities="a GOT-OCR 2 that reads charts as tables; its chat template writes all image tokens itself",
        ),
        several_images="it was made for one",
    ),
}
