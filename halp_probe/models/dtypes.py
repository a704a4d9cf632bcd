"""Change the dtype of a model's weights and of nothing else."""

from __future__ import annotations

from typing import Any

import torch


def cast_parameters(model: Any, dtype: torch.dtype) -> None:
    """Cast the parameters but not the buffers: those such as rotary frequencies are float32 in any model."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def note_dtype(config: Any, dtype: torch.dtype) -> None:
    """Write the dtype into a config and its sub-configs, as the default for loading."""
    for part in (config, *(getattr(config, name) for name in config.sub_configs)):
        part.dtype = dtype
