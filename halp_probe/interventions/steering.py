"""Change the output of a decoder block while a context lasts: add a direction to it, or take one out.

Layer k is the output of decoder block k, before any DeepStack addition and before the final norm. An intervention acts
in every forward pass and at every position: image and text tokens, padding, each answer token. It acts before all other
hooks on its block, so whatever reads the block's output (a capture, `output_hidden_states`) reads the changed one,
whichever was there first. Of several interventions on one layer, the one entered last acts first.

Legend: B rows of a batch, T tokens, D decoder width.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from halp_probe.errors import InputError
from halp_probe.models.families import family_of
from halp_probe.models.loading import LoadedModel

Change: TypeAlias = Callable[[torch.Tensor], torch.Tensor]  # [B, T, D] -> [B, T, D]


@contextmanager
def steer(model: LoadedModel | nn.Module, layer: int, direction: Any, strength: float) -> Iterator[None]:
    """Add `strength · direction` to the output of a decoder block, at every position, while the context lasts.

    The sum is computed in float32 (or finer, as the model) and rounded once to the model's dtype: in float32 the state
    changes by exactly `strength · direction`, up to the sum's own rounding. Steers on one layer add up. The hook is
    removed at the end, also after an error.

    Parameters
    ----------
    model
        A loaded model, or a transformers model of a family in the table, with PEFT around it or not.
    layer
        The decoder block, counted from 0.
    direction
        [D] float, an array or a tensor, in the units of the residual stream: it is taken as it is, never brought to
        unit length.
    strength
        By what the direction is multiplied; negative to go the other way.

    Raises
    ------
    InputError
        For a layer that is not there, for a direction of another width or with a number that is not finite, and for a
        family whose blocks pass on more than their states.

    Examples
    --------
    >>> import halp_probe
    >>> scorer = halp_probe.RiskScorer("shapes", "probes/probes/query_token_representation_layer_3")
    >>> direction = halp_probe.direction_of(scorer.probe)
    >>> plain = scorer.score("images/scene_000000.png", "Is there a red circle?")
    >>> with halp_probe.steer(scorer.loaded, layer=3, direction=direction, strength=4.0):
    ...     steered = scorer.score("images/scene_000000.png", "Is there a red circle?")
    >>> steered > plain
    True
    """
    block, vector = _block(model, layer), _check_direction(model, direction)
    if not math.isfinite(strength):
        raise InputError(f"strength {strength} is not finite; pass a number")
    shift = _float32(strength * vector, f"strength {strength:g} times the direction")  # [D]
    on_device = _on_device(shift)
    with _change_output(block, lambda hidden: hidden + on_device(hidden)):
        yield


@contextmanager
def ablate_direction(
    model: LoadedModel | nn.Module, layer: int, direction: Any, *, to: float = 0.0, along: Any = None
) -> Iterator[None]:
    """Take a direction out of the output of a decoder block, at every position, while the context lasts: h − (h · v)v.

    v is `direction` brought to unit length. Computed as in `steer`.

    Parameters
    ----------
    model
        As in `steer`.
    layer
        The decoder block, counted from 0.
    direction
        [D] float of any length but 0, an array or a tensor.
    to
        The component along v that the states have instead of none, in the units of the residual stream: such as the
        mean over a training set.
    along
        [D] float, w: what was along v is taken out along w instead. A control, h − (h · v)w, which moves every state as
        far and takes nothing of v out.

    Raises
    ------
    InputError
        As `steer` does, and for a direction of zeros.

    Examples
    --------
    >>> import halp_probe
    >>> scorer = halp_probe.RiskScorer("shapes", "probes/probes/query_token_representation_layer_3")
    >>> direction = halp_probe.direction_of(scorer.probe)
    >>> with halp_probe.ablate_direction(scorer.loaded, layer=3, direction=direction):
    ...     one = scorer.score("images/scene_000000.png", "Is there a red circle?")
    ...     other = scorer.score("images/scene_000001.png", "How many shapes are there?")
    >>> abs(one - other) < 1e-4  # the probe sees nothing any more
    True
    """
    block = _block(model, layer)
    unit = _on_device(_unit(model, direction))
    other = unit if along is None else _on_device(_unit(model, along))
    if not math.isfinite(to):
        raise InputError(f"to={to} is not finite; pass the component that the states should have")
    with _change_output(block, lambda hidden: hidden + (to - hidden @ unit(hidden))[..., None] * other(hidden)):
        yield


@contextmanager
def _change_output(block: nn.Module, change: Change) -> Iterator[None]:
    def hook(_module: nn.Module, _args: Any, output: Any) -> torch.Tensor:
        if not isinstance(output, torch.Tensor):
            raise TypeError(f"the block returns {type(output).__name__}, not one tensor of hidden states")
        wide = output.to(torch.promote_types(output.dtype, torch.float32))
        return change(wide).to(output.dtype)

    handle = block.register_forward_hook(hook, prepend=True)  # transformers leaves hooks of its own that read states
    try:
        yield
    finally:
        handle.remove()


def _block(model: LoadedModel | nn.Module, layer: int) -> nn.Module:
    blocks = _parts(model)[1]
    if layer not in range(len(blocks)):
        raise InputError(f"layer {layer}: the model has layers 0 to {len(blocks) - 1}; pass one of them")
    return blocks[layer]


def _check_direction(model: LoadedModel | nn.Module, direction: Any) -> torch.Tensor:
    """Return the direction as [D] float64 on the CPU."""
    if isinstance(direction, torch.Tensor):
        vector = direction.detach().to("cpu", torch.float64)
    else:
        vector = torch.from_numpy(np.array(direction, dtype=np.float64))
    width = int(_parts(model)[0].get_text_config().hidden_size)
    if vector.shape != (width,):
        raise InputError(
            f"the direction has shape {tuple(vector.shape)}, the model's states ({width},); pass [D] of it"
        )
    if not vector.isfinite().all():
        raise InputError(f"{int((~vector.isfinite()).sum())} of the direction's {width} numbers are not finite")
    return vector


def _parts(model: LoadedModel | nn.Module) -> tuple[Any, nn.ModuleList]:
    """Return the model's config and its decoder blocks."""
    plain: Any = model
    if isinstance(model, LoadedModel):
        plain, family = model.model, model.checkpoint.family
    else:
        plain = plain.get_base_model() if hasattr(plain, "get_base_model") else plain  # PEFT's wrapper
        family = family_of(plain.config.model_type)
    if family.block_states is not None:
        raise InputError(
            f"a block of {plain.config.model_type} passes on more than the states that are read as its layer, so an "
            "intervention there has no one meaning; choose a model whose blocks pass on their states alone"
        )
    return plain.config, family.blocks(plain)


def _unit(model: LoadedModel | nn.Module, direction: Any) -> torch.Tensor:
    """Return the direction as [D] float32 of unit length on the CPU."""
    vector = _check_direction(model, direction)
    length = float(vector.norm())
    if not length > 0:
        raise InputError("the direction is zero: there is nothing to take out; pass another one")
    return _float32(vector / length, "the direction")


def _float32(vector: torch.Tensor, what: str) -> torch.Tensor:
    rounded = vector.float()
    if not rounded.isfinite().all():
        raise InputError(f"{what} is beyond float32; pass smaller numbers")
    return rounded


def _on_device(vector: torch.Tensor) -> Change:
    """Return a function that gives the vector in the dtype and on the device of a tensor, copied there once."""
    copy = functools.cache(lambda device, dtype: vector.to(device, dtype))
    return lambda hidden: copy(hidden.device, hidden.dtype)
