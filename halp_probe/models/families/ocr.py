"""Readers of documents: pictures of pages, many tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from halp_probe.models.families.defaults import EXPERTS, PLAIN
from halp_probe.models.family import Family, Notes
from halp_probe.models.image_entry import features_of_lists
from halp_probe.models.vision_states import channels_first, unshuffled_patches

_VIEWS = "mean over the image tokens of the crops (of a large picture), then of the whole, as they enter the decoder"
_CROPS: dict[str, Any] = {
    "image_inputs": ("pixel_values", "num_local_patches"),
    "optional_image_inputs": ("pixel_values_local",),
}

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
    "deepseek_ocr2": replace(
        PLAIN,
        notes=Notes(
            checkpoint="deepseek-community/DeepSeek-OCR-2",
            vision_only=f"{_VIEWS}, and the learned separator at the end",
            vision_encoder="mean over the last states of the queries (144 a crop, 256 for the whole picture), which "
            "read what SAM says of each place",
            vision_token="the last image token: the learned separator at the image's end",
            oddities=f"the number of queries does not depend on the picture's size; {EXPERTS}",
        ),
        **_CROPS,
    ),
    "unlimited_ocr": replace(
        PLAIN,
        notes=Notes(
            checkpoint="baidu/Unlimited-OCR",
            vision_only=f"{_VIEWS}, a learned newline behind each row among them, and the learned separator at the end",
            vision_encoder="mean over the patches of the crops and of the whole picture: CLIP's state and SAM's, side "
            "by side",
            vision_token="the last image token: the learned separator at the image's end",
            attention="causal; answer tokens see the prompt and the 128 answer tokens before them",
            oddities="its generation_config forbids repeated n-grams, which is not supported for answers here: extract "
            f"without them; {EXPERTS}",
        ),
        features=features_of_lists,
        unshared="its cache takes what is read first for the whole prompt",
        answer_limit="sliding_window",
        **{**_CROPS, "image_inputs": ("pixel_values", "num_local_patches", "patches_grid")},
    ),
    "step3p7": replace(
        PLAIN,
        notes=Notes(
            checkpoint="stepfun-ai/Step-3.7-Flash",
            vision_only=f"{_VIEWS}; the marks between them are text",
            vision_encoder="mean over the patches of the crops and of the whole picture at the tower's last block, in "
            "front of the two convolutions that make one token of 4 × 4",
            vision_token="the last image token of the whole picture, behind its crops and in front of <im_end>",
            attention="causal; most blocks look through a window",
            oddities=EXPERTS,
        ),
        projector="model.vision_model.downsampler1",
        vision_states=channels_first,
        **_CROPS,
    ),
}
