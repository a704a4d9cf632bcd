"""Qwen-VL and its relatives: three-dimensional positions, pictures as packed patches of any number."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.models.families.defaults import EXPERTS, MROPE, PLAIN, RECURRENT
from halp_probe.models.family import Family, Notes

_QWEN = replace(
    MROPE,
    projector="model.visual.merger",
    qwen_vl_utils=True,
    packed_tower="model.visual",
    patch_projection="model.visual.patch_embed.proj",
)
_RECURRENT = replace(
    _QWEN,
    unshared=RECURRENT,
    right_padding=False,  # the state goes on fading behind the prompt
)
_QWEN3_5 = Notes(
    checkpoint="Qwen/Qwen3.5-9B",
    attention="causal; three blocks of four are recurrent (gated delta rule)",
    oddities="where the chat template opens <think>, the first answer token is the thinking's",
)

ROWS: dict[str, Family] = {
    "qwen2_vl": replace(_QWEN, notes=Notes(checkpoint="Qwen/Qwen2-VL-7B-Instruct")),
    "qwen2_5_vl": replace(_QWEN, notes=Notes(checkpoint="Qwen/Qwen2.5-VL-7B-Instruct")),
    "qwen3_vl": replace(
        _QWEN,
        notes=Notes(
            checkpoint="Qwen/Qwen3-VL-8B-Instruct",
            oddities="DeepStack adds to the image positions after blocks 0 to 2: a state is read before that",
        ),
    ),
    "qwen3_vl_moe": replace(
        _QWEN,
        notes=Notes(
            checkpoint="Qwen/Qwen3-VL-30B-A3B-Instruct",
            oddities="DeepStack adds to the image positions after blocks 0 to 2: a state is read before that; "
            + EXPERTS,
        ),
    ),
    "qwen3_5": replace(_RECURRENT, notes=_QWEN3_5),
    "qwen3_5_moe": replace(
        _RECURRENT,
        notes=replace(_QWEN3_5, checkpoint="Qwen/Qwen3.5-35B-A3B", oddities=f"{_QWEN3_5.oddities}; mixture of experts"),
    ),
    "exaone4_5": replace(
        PLAIN,
        notes=Notes(
            checkpoint="LGAI-EXAONE/EXAONE-4.5-33B",
            oddities="the tower of Qwen2.5-VL, but plain positions; three blocks of four attend within a window",
        ),
        projector="model.visual.merger",
        image_inputs=("pixel_values", "image_grid_thw"),
        images_together=True,
        area_bounds=True,
    ),
}
