"""Tiny random VLMs from configurations alone, with real processors: one factory for every family under test."""

from __future__ import annotations

import torch
from tiny import (
    fast_vlm,
    fused,
    gemma,
    glm,
    granite,
    idefics,
    kimi,
    llava,
    minicpm,
    mllama,
    molmo,
    muse,
    nemotron,
    ocr,
    omni,
    others,
    phi4,
    pixtral,
    qwen,
    qwen_like,
    tiles,
    video,
    views,
)
from tiny.parts import Tiny

from halp_probe.models.families import family_of
from halp_probe.models.loading import Checkpoint, LoadedModel

TINY: dict[str, Tiny] = {
    **qwen.TINY,
    **qwen_like.TINY,
    **omni.TINY,
    **glm.TINY,
    **llava.TINY,
    **video.TINY,
    **gemma.TINY,
    **idefics.TINY,
    **granite.TINY,
    **molmo.TINY,
    **muse.TINY,
    **fast_vlm.TINY,
    **nemotron.TINY,
    **ocr.TINY,
    **views.TINY,
    **kimi.TINY,
    **minicpm.TINY,
    **mllama.TINY,
    **phi4.TINY,
    **others.TINY,
    **pixtral.TINY,
    **fused.TINY,
    **tiles.TINY,
}
FAMILY_NAMES = tuple(TINY)


def tiny_model(name: str) -> LoadedModel:
    """A seeded float32 model of this family, five or six blocks of width 32."""
    torch.manual_seed(7)
    model, processor = TINY[name].build()
    name, family = f"tiny-{name}", family_of(model.config.model_type)
    return LoadedModel(
        checkpoint=Checkpoint(
            name=name, source=name, revision="random", config=model.config, processor=processor, family=family
        ),
        model=model.eval(),
    )
