"""MiniCPM-V of transformers' own classes: a picture as a whole and in slices, a recurrent decoder."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.models.families.defaults import MM_TOKEN_TYPES, PLAIN, RECURRENT
from halp_probe.models.family import Family, Notes, mrope_positions_on_canvas

_NOTES = Notes(
    checkpoint="openbmb/MiniCPM-V-4.6",
    vision_only="mean over the image tokens of the whole picture and of its slices, as they enter the decoder; the "
    "marks between them are text",
    vision_encoder="mean over the tower's output for the whole picture and its slices, after its last norm; each "
    "vector stands for four patches, which become one within the tower",
    vision_token="the last image token: of the last slice, or of the whole picture where there are none",
    attention="causal; three blocks of four are recurrent (gated delta rule)",
    oddities="the repositories of before MiniCPM-V 4.6 hold code of their own, not transformers' class",
)
_MINICPM = replace(
    PLAIN,
    notes=_NOTES,
    projector="model.merger",
    encoder="model.vision_tower.post_layernorm",
    image_inputs=("pixel_values", "target_sizes"),
    unshared=RECURRENT,
    right_padding=False,
)

ROWS: dict[str, Family] = {
    "minicpmv4_6": _MINICPM,
    "minicpmv4_7": replace(
        _MINICPM,
        notes=replace(
            _NOTES,
            checkpoint="openbmb/MiniCPM-V-4.7-1B",
            oddities="positions in three dimensions: a picture, its slices and their marks lie on one canvas",
        ),
        token_types=MM_TOKEN_TYPES,
        positions=mrope_positions_on_canvas,
        position_axes=3,
        position_inputs=("target_sizes",),
    ),
    "minicpm_ocr": replace(
        _MINICPM,
        notes=replace(
            _NOTES,
            checkpoint="openbmb/MiniCPM-OCR-1.0",
            vision_encoder="mean over the patches of the whole picture and of its slices, after the tower's last norm",
            oddities="made for reading text",
        ),
    ),
}
