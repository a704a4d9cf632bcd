"""Qwen-VL and its relatives: three-dimensional positions, pictures as packed patches of any number."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.models.families.defaults import EXPERTS, MROPE, PLAIN, RECURRENT
from halp_probe.models.family import Family, Notes, mrope_positions_by_id, mrope_positions_of_omni

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
_OMNI = replace(
    MROPE,
    projector="model.visual.merger",
    packed_tower="model.visual",
    patch_projection="model.visual.patch_embed.proj",
    token_types=None,
    positions=mrope_positions_of_omni,
)
_THINKER = "the part of the checkpoint that answers in text (the thinker); its ears and its voice are not used"
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
    "qwen4_exp": replace(
        _RECURRENT,
        notes=replace(
            _QWEN3_5,
            checkpoint="Qwen/Qwen4-Exp",
            attention="causal; three blocks of four are recurrent (gated delta rule), the fourth reads the tokens that "
            "an indexer chooses",
            oddities="blocks work on several residual streams (`hc_count`, 4 as published): a state is all of them "
            "side by side, so that many times as wide as the decoder; none is the first among them, all begin as the "
            "token's embedding, and what the head reads is a gated mean of all; n-grams of the tokens are added in "
            f"front of some blocks; {EXPERTS}",
        ),
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
    "cohere_compass": replace(
        _QWEN,
        notes=Notes(
            checkpoint="CohereLabs/North-Micro-Vision-Instruct",
            oddities="DeepStack adds to the image positions after blocks 0 to 2: a state is read before that; in the "
            "chat model some blocks know no positions",
        ),
        qwen_vl_utils=False,
    ),
    "cosmos3_omni": replace(
        _QWEN,
        notes=Notes(
            checkpoint="nvidia/Cosmos3-Nano",
            oddities="a Qwen3-VL, the part of the checkpoint that reads and answers; DeepStack adds to the image "
            "positions after blocks 0 to 2: a state is read before that",
        ),
        qwen_vl_utils=False,
    ),
    "cosmos3_edge": replace(
        MROPE,
        notes=Notes(
            checkpoint="nvidia/Cosmos3-Edge",
            vision_encoder="mean over the patches after the tower's last norm",
        ),
        projector="model.projector",
        packed_tower="model.visual",
        token_types=None,  # its processor does not give them
        unused_outputs=("mm_token_type_ids",),
        positions=mrope_positions_by_id,
    ),
    "hyperclovax_vision_v2": replace(
        PLAIN,
        notes=Notes(
            checkpoint="naver-hyperclovax/HyperCLOVAX-SEED-Think-32B",
            vision_only="mean over the image's tokens after the last projection, before the decoder multiplies all "
            "embeddings by its `embedding_multiplier`",
            vision_encoder="mean over the patches of the tower's last block, before the tower's own merger",
            oddities="the tower of Qwen2.5-VL with its merger, then a linear projection; plain positions",
        ),
        projector="model.vision_model.merger",
        image_inputs=("pixel_values", "image_grid_thw"),
        images_together=True,
        packed_tower="model.vision_model",
        patch_projection="model.vision_model.patch_embed.proj",
    ),
    "qwen2_5_omni_thinker": replace(
        _OMNI,
        notes=Notes(checkpoint="Qwen/Qwen2.5-Omni-7B", oddities=_THINKER),
    ),
    "qwen3_omni_moe_thinker": replace(
        _OMNI,
        notes=Notes(
            checkpoint="Qwen/Qwen3-Omni-30B-A3B-Instruct",
            oddities=f"{_THINKER}; DeepStack adds to the image positions after blocks 0 to 2: a state is read before "
            f"that; {EXPERTS}",
        ),
    ),
}
