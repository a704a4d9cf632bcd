"""Forward hooks that keep selected rows only. They know modules and indices, but no prompts, models or files.

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
    """Fill `{layer: [K, D]}` with block outputs at (rows[k], columns[k]) in one forward pass inside the context.

    `rows` and `columns` are [K] int64 indices into the blocks' output [B, T, D]; `states_of` extracts that from what a
    block returns, if it is not just that. The states are copies, detached, in the model's dtype on the block's
    device. Raises RuntimeError if a block runs twice in the context. Hooks are removed at the end, also after an
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
def capture_means(
    blocks: Mapping[int, nn.Module],
    mask: torch.Tensor,
    states_of: Callable[[Any], torch.Tensor] | None = None,
) -> Iterator[dict[int, torch.Tensor]]:
    """Fill `{layer: [B, D]}` with the means of block outputs over the positions of `mask` [B, T], as float32.

    Every row of the mask has a position. Otherwise as `capture_outputs`, whose output [B, T, D] it reads.
    """
    means: dict[int, torch.Tensor] = {}
    columns = [row.nonzero().flatten() for row in mask.cpu()]

    def keep(layer: int, output: Any) -> None:
        if layer in means:
            raise RuntimeError(f"block {layer} ran twice in one capture: one forward pass a capture")
        hidden = output if states_of is None else states_of(output)  # [B, T, D]
        # Row by row: a copy of all as float32 would need more memory than the block's own output.
        means[layer] = torch.stack(
            [hidden[row, at.to(hidden.device)].mean(0, dtype=torch.float32) for row, at in enumerate(columns)]
        ).detach()

    hooks = [
        block.register_forward_hook(lambda _module, _args, output, layer=layer: keep(layer, output))
        for layer, block in blocks.items()
    ]
    try:
        yield means
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def restrict_positions(feed_forward: nn.Module | None, rows: torch.Tensor, columns: torch.Tensor) -> Iterator[None]:
    """Restrict a position-wise module to the positions (rows[k], columns[k]) inside the context.

    Elsewhere its output [B, T, D] is zero. This is valid only if nothing reads the other positions, as in the last
    block. With None nothing is left out. Hooks are removed at the end, also after an error.
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
def select_columns(module: nn.Module, columns: torch.Tensor) -> Iterator[None]:
    """Pass only these columns [B, K, D] of its input [B, T, D] to a module inside the context."""
    hook = module.register_forward_pre_hook(lambda _module, args: args[0][:, columns.to(args[0].device)])
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def capture_input(module: nn.Module) -> Iterator[list[Any]]:
    """Append the first argument of every call of the module inside the context."""
    captured: list[Any] = []

    def keep(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        captured.append(args[0] if args else next(iter(kwargs.values())))

    hook = module.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield captured
    finally:
        hook.remove()


@contextmanager
def capture_output(module: nn.Module) -> Iterator[list[Any]]:
    """Append the output of every call of the module inside the context."""
    captured: list[Any] = []
    hook = module.register_forward_hook(lambda _module, _args, output: captured.append(output))
    try:
        yield captured
    finally:
        hook.remove()
