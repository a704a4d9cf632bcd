"""Forward hooks that keep selected rows only. Knows modules and indices; nothing of prompts, models or files.

Legend: B rows of a batch, T tokens, K selected places, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def capture_outputs(
    blocks: Mapping[int, nn.Module],
    rows: torch.Tensor,
    columns: torch.Tensor,
    states_of: Callable[[Any], torch.Tensor] | None = None,
) -> Iterator[dict[int, torch.Tensor]]:
    """Inside the context, one forward pass fills `{layer: [K, D]}` with block outputs at (rows[k], columns[k]).

    `rows` and `columns` are [K] int64 indices into the blocks' output [B, T, D]; `states_of` finds that in what a
    block returns, where it is not just that. The states are copies, detached, in the model's dtype on the block's
    device. Raises RuntimeError when a block runs twice in the context. Hooks are removed at the end, also after an
    error.
    """
    states: dict[int, torch.Tensor] = {}

    def keep(layer: int, output: Any) -> None:
        if layer in states:
            raise RuntimeError(f"block {layer} ran twice in one capture: one forward pass a capture")
        hidden = output if states_of is None else states_of(output)  # [B, T, D]
        if not isinstance(hidden, torch.Tensor):
            raise TypeError(f"block {layer} returns {type(hidden).__name__}, not one tensor of hidden states")
        states[layer] = hidden[rows.to(hidden.device), columns.to(hidden.device)].detach()  # [K, D], a copy

    hooks = [
        block.register_forward_hook(lambda _module, _args, output, layer=layer: keep(layer, output))
        for layer, block in blocks.items()
    ]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def only_at(feed_forward: nn.Module | None, rows: torch.Tensor, columns: torch.Tensor) -> Iterator[None]:
    """Inside the context, a module that treats each position by itself works at (rows[k], columns[k]) alone.

    Elsewhere its output [B, T, D] is zero. Right where no one reads the other positions: in the last block, most of
    whose work nothing depends on. With None nothing is left out. Hooks are removed at the end, also after an error.
    """
    if feed_forward is None:
        yield
        return
    shapes: list[torch.Size] = []

    def select(_module: nn.Module, args: tuple[torch.Tensor, ...]) -> torch.Tensor:
        shapes.append(args[0].shape)
        return args[0][rows.to(args[0].device), columns.to(args[0].device)][None]  # [1, K, D]

    def spread(_module: nn.Module, _args: tuple[torch.Tensor, ...], output: Any) -> Any:
        states, *others = output if isinstance(output, tuple) else (output,)  # [1, K, D]; routers return more
        whole = states.new_zeros(shapes.pop())
        whole[rows.to(states.device), columns.to(states.device)] = states[0]
        return (whole, *others) if isinstance(output, tuple) else whole

    hooks = [feed_forward.register_forward_pre_hook(select), feed_forward.register_forward_hook(spread)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def only_columns(module: nn.Module, columns: torch.Tensor) -> Iterator[None]:
    """Inside the context, a module that is called with states [B, T, D] sees these columns alone: [B, K, D]."""
    hook = module.register_forward_pre_hook(lambda _module, args: args[0][:, columns.to(args[0].device)])
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def capture_input(module: nn.Module) -> Iterator[list[Any]]:
    """Inside the context, every call of the module appends its first argument."""
    seen: list[Any] = []

    def keep(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(args[0] if args else next(iter(kwargs.values())))

    hook = module.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


@contextmanager
def capture_output(module: nn.Module) -> Iterator[list[Any]]:
    """Inside the context, every call of the module appends what it returns."""
    seen: list[Any] = []
    hook = module.register_forward_hook(lambda _module, _args, output: seen.append(output))
    try:
        yield seen
    finally:
        hook.remove()
