"""Readings of a forward pass, by name: tensors on the device, then float32 arrays on the CPU.

Legend: B prompts, I images, L probed layers, K places of vision tokens and of images, D decoder width, V vision width.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Generic, TypeVar

import numpy as np
import torch

_Array = TypeVar("_Array", torch.Tensor, np.ndarray)


@dataclass(frozen=True, kw_only=True)
class Readings(Generic[_Array]):
    """Readings of one forward pass of a batch. Those of images are None if no prompt shows one."""

    vision_only: _Array | None = None  # [I, D]
    vision_encoder: _Array | None = None  # [I, V]
    vision_token: _Array | None = None  # [L, K, D]
    image_mean: _Array | None = None  # [L, K, D]; None also if it is no position to read
    question_end: _Array | None = None  # [L, B, D]; None if it is no position to read
    query_token: _Array  # [L, B, D]
    first_token_logprob: _Array  # [B] nats, of the likeliest first token
    first_token_entropy: _Array  # [B] nats
    answer_logprob: _Array | None = None  # [B] nats, nan without an answer; None before there are answers


def to_host(readings: Readings[torch.Tensor]) -> Readings[np.ndarray]:
    """Copy all readings to float32 arrays, in one transfer from the device."""
    named = {field.name: getattr(readings, field.name) for field in fields(readings)}
    tensors = {name: tensor for name, tensor in named.items() if tensor is not None}
    flat = torch.cat([tensor.float().flatten() for tensor in tensors.values()]).cpu().numpy()
    ends = np.cumsum([tensor.numel() for tensor in tensors.values()])
    pieces = np.split(flat, ends[:-1])
    arrays = {
        name: piece.reshape(tuple(tensor.shape)) for (name, tensor), piece in zip(tensors.items(), pieces, strict=True)
    }
    return Readings(**arrays)
