"""GLM's vision-language models and others whose pictures are packed patches of any number, like Qwen-VL's."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.models.families.defaults import EXPERTS, MROPE, PLAIN
from halp_probe.models.family import (
    Family,
    Notes,
    TokenTypes,
    mrope_positions_by_id,
    mrope_positions_by_row,
)

_GLM = replace(
    MROPE,
    projector="model.visual.merger",
    encoder="model.visual.post_layernorm",  # a convolution makes one token of 2 × 2 patches between it and the merger
    packed_tower="model.visual",
    patch_projection="model.visual.patch_embed.proj",
    area_bounds=True,
)
_NOTES = Notes(
    checkpoint="zai-org/GLM-4.1V-9B-Thinking",
    vision_encoder="mean over the patches after the tower's last norm, before 2 × 2 of them are one token",
    oddities="where the model thinks first, the first answer token is <think>",
)
_LAST_NORM = "mean over the patches after the tower's last norm"

ROWS: dict[str, Family] = {
    "glm4v": replace(_GLM, notes=_NOTES),
    "glm46v": replace(_GLM, notes=replace(_NOTES, checkpoint="none known (zai-org/GLM-4.6V-Flash is a glm4v)")),
    "glm4v_moe": replace(
        _GLM,
        notes=replace(_NOTES, checkpoint="zai-org/GLM-4.5V", oddities=f"{_NOTES.oddities}; {EXPERTS}"),
    ),
    "glmga": replace(_GLM, notes=replace(_NOTES, checkpoint="none known; GLM-4.6V with another image processor")),
    "glm_ocr": replace(_GLM, notes=replace(_NOTES, checkpoint="zai-org/GLM-OCR", oddities="made for reading text")),
    "ernie4_5_vl_moe": replace(
        MROPE,
        notes=Notes(
            checkpoint="baidu/ERNIE-4.5-VL-28B-A3B-PT",
            vision_encoder=_LAST_NORM,
            oddities=f"{EXPERTS}; the image's tokens and the marks around it have experts of their own",
        ),
        feed_forward=None,  # it also takes the tokens' types
        area_bounds=True,
        projector="model.resampler_model",
        unused_outputs=("mm_token_type_ids",),
        token_types=TokenTypes(name="moe_mm_token_type_ids", for_decoder=True, padding=0, after_prefix=True),
        positions=mrope_positions_by_id,
    ),
    "paddleocr_vl": replace(
        MROPE,
        notes=Notes(checkpoint="PaddlePaddle/PaddleOCR-VL", vision_encoder=_LAST_NORM),
        projector="model.projector",
        area_bounds=True,
    ),
    "video_llama_3": replace(
        PLAIN,
        notes=Notes(checkpoint="lkhl/VideoLLaMA3-2B-Image-HF", vision_encoder=_LAST_NORM),
        projector="model.projector",
        encoder="model.vision_model.post_layernorm",  # with a merge size, patches are averaged after it
        image_inputs=("pixel_values", "image_grid_thw", "image_merge_sizes"),
        area_bounds=True,
        images_together=True,
    ),
    "hunyuan_vl": replace(
        MROPE,
        notes=Notes(
            checkpoint="tencent/HunyuanOCR",
            vision_only="mean over the image's tokens as they enter the decoder, the learned ones at its begin and end "
            "and behind each row among them",
            vision_token="the learned token at the image's end",
            oddities="mRoPE with a fourth axis; the text after the image counts all of its tokens",
        ),
        projector="model.vision_tower.patch_merger",
        images_together=False,  # how many patches become a token differs from image to image
        positions=mrope_positions_by_row,
        several_images="its positions are computed here for one image a row",
        position_axes=4,
        area_bounds=True,
    ),
}
