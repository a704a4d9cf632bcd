"""Tiny random VLMs from configurations alone, with real processors: one factory for every family under test."""

from __future__ import annotations

import pytest
import torch
import transformers
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
    streams,
    tiles,
    video,
    views,
)
from tiny.parts import Tiny

from halp_probe.models import compat
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
    **streams.TINY,
    **others.TINY,
    **pixtral.TINY,
    **fused.TINY,
    **tiles.TINY,
}
FAMILY_NAMES = tuple(TINY)
NOT_IN_5_17 = {  # what is left out of the proof with the oldest transformers
    "vipllava": "its own forward fails: the vision blocks' states are not kept",
    "minicpmv4_6": "its own forward fails for a picture of several slices",
    "qwen4_exp": "its indexer's cache does not follow when rows leave the batch",
    "mllama": "it takes its cross-attention mask for all tokens so far",
    "granite4_vision": "its Q-Former's width cannot be made small",
    "aria": "its processor's picture size cannot be made small",
    "got_ocr2": "its processor's number of image tokens cannot be made small",
    "fused_vit_layernorm": "`tie_last_hidden_states` is refused there, as another test says",
}


def tiny_model(name: str) -> LoadedModel:
    """A seeded float32 model of this family, five or six blocks of width 32; skips where transformers is too old."""
    later = TINY[name].later
    if later and not hasattr(transformers, later):
        pytest.skip(f"transformers {transformers.__version__} has no {later}")
    if name in NOT_IN_5_17 and compat.resolve_revision is None:
        pytest.skip(f"transformers {transformers.__version__}: {NOT_IN_5_17[name]}")
    torch.manual_seed(7)
    model, processor = TINY[name].build()
    name, family = f"tiny-{name}", family_of(model.config.model_type)
    return LoadedModel(
        checkpoint=Checkpoint(
            name=name, source=name, revision="random", config=model.config, processor=processor, family=family
        ),
        model=model.eval(),
    )
