"""Provenance of captured numbers: the settings that affect them, and the versions that made them."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from halp_probe.engine.identity import add_prompts, identity_of_model
from halp_probe.engine.prompting import Prompter
from halp_probe.models.loading import LoadedModel
from halp_probe.records import USUAL_POSITIONS, CaptureSpec
from halp_probe.version import __version__

# Fields of an identity that stand in the shards' attributes alone, or that a task or an intervention adds.
_NOT_IN_RECORD = frozenset({"config_model_type", "layer_meaning", "intervention", "intervention_settings"})


_LATER = frozenset({"adapters", "quantization", "system_prompt"})  # null is not written: older records have none


VERSIONS = {
    "halp_probe_version": __version__,
    "torch_version": str(torch.__version__),
    "transformers_version": transformers.__version__,
}


def run_settings(
    loaded: LoadedModel, prompter: Prompter, spec: CaptureSpec, *, text_only: bool = False
) -> dict[str, Any]:
    """Return the settings that must not change inside one run folder, since they affect the captured numbers.

    `text_only`: the prompts show no image.
    """
    identity = add_prompts(identity_of_model(loaded), prompter, shows_images=not text_only)
    return {
        "model_name": loaded.checkpoint.name,
        "layers": list(spec.layers),
        **({} if spec.positions == USUAL_POSITIONS else {"positions": ",".join(spec.positions)}),
        "max_new_tokens": spec.max_new_tokens,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "attn_implementation": loaded.model.config._attn_implementation,
        **{
            name: value
            for name, value in identity.attributes().items()
            if name not in _NOT_IN_RECORD and not (name in _LATER and value is None)
        },
    }
