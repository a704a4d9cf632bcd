"""What differs between the supported releases of transformers (5.17 to 5.23), each told by what the release has.

Nothing else in the package asks which release it runs on. When `setup.cfg`'s bound rises to 5.18, all of it can go, and
the other ways in `image_entry.py` that are marked with 5.17.
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
    """Whether `forward` names the argument: without it (5.17) the value would vanish in `**kwargs`, without a word."""
    return "mm_encoder_outputs" in inspect.signature(type(model).forward).parameters


def takes_columns(model: Any) -> bool:
    """Whether `forward` names `logits_to_keep`: some families' does not, and would give all logits, without a word."""
    return "logits_to_keep" in inspect.signature(type(model).forward).parameters


def hub_commit(name: str, revision: str | None, *, cache_dir: str | None) -> str | None:
    """The hub's commit of `revision` (None = the default branch) of the model `name`, from the cache when offline.

    Where it cannot be told: `revision` as it is, or transformers' own OSError; 5.17 asks by fetching `config.json`.
    """
    if resolve_revision is None:
        return Path(cached_file(name, "config.json", revision=revision, cache_dir=cache_dir)).parent.name
    resolved = resolve_revision(name, revision, cache_dir=cache_dir)
    return getattr(resolved, "resolved", resolved)


@functools.cache
def ties_last_hidden_states() -> bool:
    """Whether `tie_last_hidden_states` in a vision config makes the last hidden state the normed one.

    Without it (5.17) the setting is kept and does nothing, without a word: tried on a tower without weights.
    """
    sizes = {"hidden_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 2}
    config = ViTConfig(**sizes, image_size=2, patch_size=1, num_channels=1, tie_last_hidden_states=True)
    with torch.device("meta"):
        output = ViTModel(config)(torch.zeros(1, 1, 2, 2), output_hidden_states=True)
    return output.hidden_states[-1] is output.last_hidden_state


def checkpoint_activations(model: Any) -> None:
    """Compute a block's activations again in the backward pass instead of keeping them."""
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable({"use_reentrant": False})
    else:  # 5.17
        model.gradient_checkpointing_enable({"use_reentrant": False})
