"""Files of the original fused model: `final_connector.pth`, and `final_lora_model`, an adapter of the bare Qwen.

Its connector was an `nn.Sequential` of Linear, GELU, Linear; its LoRA was put on a Qwen that took embeddings. Neither
file says whether the connector read the tower's states before or after the final LayerNorm. A model with tiles also has
a newline embedding, for which these files have no place: it is refused.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from halp_probe.fused.model import connector
from halp_probe.models.errors import ModelError, one_line

CONNECTOR_FILE = "final_connector.pth"
LORA_FOLDER = "final_lora_model"
_NAMES = {  # the original's names to ours
    "0.weight": "linear_1.weight",
    "0.bias": "linear_1.bias",
    "2.weight": "linear_2.weight",
    "2.bias": "linear_2.bias",
}
_BROKEN = (  # what torch and its unpickler raise for other files
    *(OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, IndexError, AttributeError),
    *(AssertionError, struct.error),
)


def load_connector(model: Any, path: Path) -> None:
    """Copy the weights of a `final_connector.pth` into the connector of `model`, in its dtype.

    Raises ModelError for a file with anything but tensors, which is not executed, and for other keys or shapes.
    """
    check_no_tiles(model)
    weights, own = read_tensors(path), connector(model)
    missing, unknown = sorted(_NAMES.keys() - weights.keys()), sorted(weights.keys() - _NAMES.keys())
    if missing or unknown:
        what = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"holds {', '.join(unknown[:4])}"] * bool(unknown)
        raise ModelError(f"{path} {' and '.join(what)}: a connector's file has the keys {', '.join(_NAMES)}")
    for theirs, ours in _NAMES.items():
        check_weight(weights[theirs], own.get_parameter(ours).shape, f"{theirs} in {path}")
    with torch.no_grad():
        for theirs, ours in _NAMES.items():
            own.get_parameter(ours).copy_(weights[theirs])


def save_connector(weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write a connector's state dict in the original's format."""
    torch.save({theirs: weights[ours].detach().cpu().clone() for theirs, ours in _NAMES.items()}, path)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict that torch.save wrote; ModelError, with nothing executed, for a file of anything else."""
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} contains more than tensors, and was not executed: {one_line(error, 200)}; save the state dict, "
            "or do not trust the file"
        ) from error
    except _BROKEN as error:
        raise ModelError(f"{path} cannot be read: {one_line(error, 200) or type(error).__name__}") from error
    if not isinstance(weights, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in weights.items()
    ):
        raise ModelError(f"{path} is not a state dict: it must hold tensors by name; save model.state_dict()")
    return weights


def check_weight(weight: torch.Tensor, shape: torch.Size, what: str) -> None:
    """Raise ModelError for a tensor of another shape, or with values that are not finite."""
    if weight.shape != shape:
        raise ModelError(
            f"{what} has the shape {tuple(weight.shape)}, the model needs {tuple(shape)}; choose the vision and "
            "language models that it was trained with"
        )
    if not weight.is_floating_point() or not weight.isfinite().all():
        raise ModelError(
            f"{what} holds values that are not finite numbers; its training failed, or the file is damaged"
        )


def check_no_tiles(model: Any) -> None:
    """Raise ModelError for a model with tiles."""
    if model.config.model_type != "llava":
        raise ModelError(
            "the original's files have no place for the newline of a model with tiles; leave the tiles out, or use the "
            "model's own folder"
        )
