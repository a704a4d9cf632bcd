"""Compute a patch embedding as one matrix product instead of a convolution, which is slower.

Qwen-VL's processor cuts pictures into patches as large as the convolution's kernel, so each kernel is applied at one
place.
Legend: N patches, C colours, E embedding width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from halp_probe.models.family import Family


class PatchProjection(nn.Module):
    """Convolution weights applied to patches of the kernel's size: [N, C, frames, height, width] -> [N, E]."""

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        if convolution.stride != convolution.kernel_size or convolution.groups != 1:
            raise ValueError(f"{convolution} is not a projection of patches that are already cut")
        self.weight, self.bias = convolution.weight, convolution.bias  # the same parameters under the same names

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Project patches [N, C, frames, height, width] to [N, E]."""
        if patches.shape[1:] != self.weight.shape[1:]:
            raise ValueError(f"patches {tuple(patches.shape[1:])} are not of the kernel's size {self.weight.shape[1:]}")
        return F.linear(patches.flatten(1), self.weight.flatten(1), self.bias)


def flatten_patch_projection(model: Any, family: Family) -> None:
    """Replace the convolution by a matrix product; a family without one is left unchanged.

    So is a convolution that carries an adapter, since the adapter's module calls it.
    """
    if family.patch_projection is not None:
        projection = model.get_submodule(family.patch_projection)
        if isinstance(projection, nn.Conv3d):
            model.set_submodule(family.patch_projection, PatchProjection(projection))
