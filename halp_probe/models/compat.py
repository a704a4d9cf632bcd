"""Differences between the supported releases of transformers (5.17 to 5.24), detected by feature.

Nothing else in the package depends on the release. When `setup.cfg`'s bound rises to 5.18, all of this can go, and the
branches of `image_entry.py` that are marked with 5.17.
"""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any

import torch
from transformers import ViTConfig, ViTModel
from transformers.utils.hub import cached_file

try:
    from transformers.utils.hub import resolve_revision
except ImportError:  # 5.17
    resolve_revision = None


def takes_features(model: Any) -> bool:
    """Return whether `forward` takes `mm_encoder_outputs`: without it (5.17) `**kwargs` would silently swallow it."""
    return "mm_encoder_outputs" in inspect.signature(type(model).forward).parameters


def takes_columns(model: Any) -> bool:
    """Return whether `forward` takes `logits_to_keep`: that of some families would silently return all logits."""
    return "logits_to_keep" in inspect.signature(type(model).forward).parameters


def pass_cache(model: Any, cache: Any) -> dict[str, Any]:
    """Return a cache as an argument of `forward`: `cache`, which 5.23 and older call `past_key_values`."""
    name = "cache" if "cache" in inspect.signature(type(model).forward).parameters else "past_key_values"
    return {name: cache}


def cache_of(outputs: Any) -> Any:
    """Return the cache in what `forward` returned; None if it kept none."""
    return outputs.cache if hasattr(outputs, "cache") else outputs.past_key_values


def hub_commit(name: str, revision: str | None, *, cache_dir: str | None) -> str | None:
    """Return the hub's commit of `revision` (None = the default branch) of a model, from the cache if offline.

    If it cannot be determined: `revision` as it is, or transformers' own OSError; with 5.17 `config.json` is fetched.
    """
    if resolve_revision is None:
        return Path(cached_file(name, "config.json", revision=revision, cache_dir=cache_dir)).parent.name
    resolved = resolve_revision(name, revision, cache_dir=cache_dir)
    return getattr(resolved, "resolved", resolved)


def complete_outputs(model: Any) -> None:
    """Let Llama 4 run: in 5.24 it reads `image_outputs` of its language model's output, which has none."""
    if model.config.model_type == "llama4":
        model.language_model.register_forward_hook(_add_image_outputs)


def _add_image_outputs(_module: Any, _args: Any, output: Any) -> None:
    if not hasattr(output, "image_outputs"):
        output.image_outputs = None


@functools.cache
def ties_last_hidden_states() -> bool:
    """Return whether `tie_last_hidden_states` in a vision config makes the last hidden state the normed one.

    5.17 silently ignores the setting. It is tried on a tower without weights.
    """
    sizes = {"hidden_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 2}
    config = ViTConfig(**sizes, image_size=2, patch_size=1, num_channels=1, tie_last_hidden_states=True)
    with torch.device("meta"):
        output = ViTModel(config)(torch.zeros(1, 1, 2, 2), output_hidden_states=True)
    return output.hidden_states[-1] is output.last_hidden_state


def checkpoint_activations(model: Any) -> None:
    """Recompute a block's activations in the backward pass instead of keeping them."""
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable({"use_reentrant": False})
    else:  # 5.17
        model.gradient_checkpointing_enable({"use_reentrant": False})
