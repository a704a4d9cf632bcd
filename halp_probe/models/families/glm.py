"""GLM's vision-language models: a packed tower as Qwen-VL's, with a convolution between it and the projector."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.models.families.defaults import MM_TOKEN_TYPES, PLAIN
from halp_probe.models.family import Family, Notes, mrope_positions

_GLM = replace(
    PLAIN,
    projector="model.visual.merger",
    encoder="model.visual.post_layernorm",  # a convolution makes one token of 2 × 2 patches between it and the merger
    image_inputs=("pixel_values", "image_grid_thw"),
    images_together=True,
    token_types=MM_TOKEN_TYPES,
    positions=mrope_positions,
    position_axes=3,
    position_inputs=("image_grid_thw",),
    packed_tower="model.visual",
    patch_projection="model.visual.patch_embed.proj",
)
_NOTES = Notes(
    "zai-org/GLM-4.1V-9B-Thinking",
    vision_encoder="mean over the patches after the tower's last norm, before 2 × 2 of them are one token",
    oddities="answers begin with the model's thinking: the first answer token is <think>",
)

ROWS: dict[str, Family] = {
    "glm4v": replace(_GLM, notes=_NOTES),
    "glm46v": replace(_GLM, notes=replace(_NOTES, checkpoint="zai-org/GLM-4.6V-Flash")),
    "glm4v_moe": replace(
        _GLM,
        notes=replace(_NOTES, checkpoint="zai-org/GLM-4.5V", oddities=f"{_NOTES.oddities}; mixture of experts"),
    ),
}
