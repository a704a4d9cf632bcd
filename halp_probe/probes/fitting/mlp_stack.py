"""Many networks of one shape trained side by side, as batched matrix products in torch.

Legend: M members (networks), k members of one step, B rows of a batch, D width, H units of a hidden layer, U units of
all hidden layers. Activations are [k, H, B], so that BatchNorm sees the k times H units of a step as its channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

EPSILON = 1e-5  # BatchNorm's, as torch has it
MOMENTUM = 0.1


@dataclass(frozen=True, kw_only=True)
class NetworkShape:
    """Shape that the members have in common."""

    width: int  # D
    hidden_sizes: tuple[int, ...]  # each hidden layer is Linear, BatchNorm, ReLU, Dropout; then one logit
    dropout: float  # share of units
    norm_after_relu: bool  # Linear, ReLU, BatchNorm, Dropout instead


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Copy of one member's numbers at one moment."""

    parameters: list[torch.Tensor]  # of each hidden layer weight [H, in], bias, gain, shift [H]; of the last no norm
    means: list[torch.Tensor]  # [H] of each hidden layer, BatchNorm's running ones
    variances: list[torch.Tensor]  # [H]


class NetworkStack:
    """Stack of M networks, each with its own weights, BatchNorm, Adam and random numbers.

    A member draws its first weights and every dropout mask from its own generator, so what it learns does not depend
    on the others. Its first weights are those of `torch.nn.Linear` under the same seed.
    """

    def __init__(self, shape: NetworkShape, generators: Sequence[torch.Generator]) -> None:
        import torch

        self.shape = shape
        self.generators = list(generators)
        drawn = [_first_parameters(shape, generator) for generator in generators]
        self.parameters = [torch.stack(tensors) for tensors in zip(*drawn, strict=True)]  # [M, ...]
        self.first_moments = [torch.zeros_like(tensor) for tensor in self.parameters]
        self.second_moments = [torch.zeros_like(tensor) for tensor in self.parameters]
        self.steps = [0] * len(drawn)  # [M] updates so far
        self.means = [self.parameters[0].new_zeros(len(drawn), size) for size in shape.hidden_sizes]
        self.variances = [torch.ones_like(mean) for mean in self.means]

    def __len__(self) -> int:
        return len(self.generators)

    def train_step(
        self, first: int, last: int, X: torch.Tensor, y: torch.Tensor, learning_rate: float, weight_decay: float
    ) -> None:
        """Update members first to last - 1 once by Adam; X [k, B, D], y [k, B]: each member's own rows."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        leaves = [tensor[first:last].requires_grad_() for tensor in self.parameters]
        logit = self._logit(leaves, first, last, X, self._dropout_factors(first, last, X.shape[1]))
        loss = binary_cross_entropy_with_logits(logit, y, reduction="sum") / X.shape[1]  # each member's mean, summed
        self._adam(first, last, torch.autograd.grad(loss, leaves), learning_rate, weight_decay)

    def logit(self, X: torch.Tensor) -> torch.Tensor:
        """Return [M, n] log-odds in evaluation mode; X [M, n, D], n rows of each member's own."""
        import torch

        with torch.no_grad():
            return self._logit(self.parameters, 0, len(self), X, None)

    def keep(self, members: Sequence[int]) -> None:
        """Keep only these members, in this order."""
        index = list(members)
        self.generators = [self.generators[member] for member in index]
        self.parameters = [tensor[index] for tensor in self.parameters]
        self.first_moments = [tensor[index] for tensor in self.first_moments]
        self.second_moments = [tensor[index] for tensor in self.second_moments]
        self.steps = [self.steps[member] for member in index]
        self.means = [tensor[index] for tensor in self.means]
        self.variances = [tensor[index] for tensor in self.variances]

    def snapshot(self, member: int) -> Snapshot:
        """Copy a member's numbers."""
        parameters, means, variances = (
            [tensor[member].clone() for tensor in tensors] for tensors in (self.parameters, self.means, self.variances)
        )
        return Snapshot(parameters=parameters, means=means, variances=variances)

    def _logit(
        self,
        parameters: Sequence[torch.Tensor],
        first: int,
        last: int,
        X: torch.Tensor,
        factors: list[torch.Tensor] | None,
    ) -> torch.Tensor:
        """Return [k, B]; `factors` of each hidden layer [k, H, B] mean training, None evaluation."""
        import torch

        hidden = X.transpose(1, 2)  # [k, D, B]
        for layer in range(len(self.shape.hidden_sizes)):
            weight, bias, gain, shift = parameters[4 * layer : 4 * layer + 4]
            hidden = torch.baddbmm(bias[:, :, None], weight, hidden)  # [k, H, B]
            statistics = self.means[layer][first:last], self.variances[layer][first:last]
            if self.shape.norm_after_relu:
                hidden = _normalise(hidden.relu(), *statistics, gain, shift, factors is not None)
            else:
                hidden = _normalise(hidden, *statistics, gain, shift, factors is not None).relu()
            if factors is not None and self.shape.dropout:
                hidden = hidden * factors[layer]
        weight, bias = parameters[-2:]
        return torch.baddbmm(bias[:, :, None], weight, hidden)[:, 0]

    def _dropout_factors(self, first: int, last: int, rows: int) -> list[torch.Tensor]:
        """Draw 0 or 1 / (1 - dropout) for each unit and row, [k, H, B] of each hidden layer."""
        rate, sizes = self.shape.dropout, self.shape.hidden_sizes
        if not rate:
            return []
        drawn = self.parameters[0].new_empty(last - first, sum(sizes), rows)  # [k, U, B]
        for own, generator in zip(drawn, self.generators[first:last], strict=True):
            own.uniform_(generator=generator)
        return list(drawn.ge_(rate).div_(1 - rate).split(sizes, dim=1))

    def _adam(
        self, first: int, last: int, gradients: Sequence[torch.Tensor], learning_rate: float, weight_decay: float
    ) -> None:
        """Update by Adam, for members with the same number of updates so far."""
        import torch
        from torch.optim.adam import adam

        for step, run in groupby(range(first, last), key=lambda member: self.steps[member]):
            members = list(run)
            here, there = slice(members[0], members[-1] + 1), slice(members[0] - first, members[-1] + 1 - first)
            with torch.no_grad():
                adam(
                    [tensor[here] for tensor in self.parameters],
                    [tensor[there] for tensor in gradients],
                    [tensor[here] for tensor in self.first_moments],
                    [tensor[here] for tensor in self.second_moments],
                    [],
                    [tensor.new_tensor(float(step)) for tensor in gradients],  # `adam` adds 1 to each
                    fused=True,
                    amsgrad=False,
                    beta1=0.9,
                    beta2=0.999,
                    lr=learning_rate,
                    weight_decay=weight_decay,
                    eps=1e-8,
                    maximize=False,
                )
        self.steps[first:last] = [step + 1 for step in self.steps[first:last]]


def fold_batch_norm(network: Snapshot, shape: NetworkShape) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return weights [inputs, outputs] and biases [outputs] of each layer, float32, with BatchNorm folded in."""
    numbers = [tensor.cpu().double().numpy() for tensor in network.parameters]
    weights = [weight.T.copy() for weight in [*numbers[0:-2:4], numbers[-2]]]
    biases = [bias.copy() for bias in [*numbers[1:-2:4], numbers[-1]]]
    for layer in range(len(shape.hidden_sizes)):
        variance, mean = network.variances[layer].cpu().double().numpy(), network.means[layer].cpu().double().numpy()
        gain = numbers[4 * layer + 2] / np.sqrt(variance + EPSILON)  # [H]
        shift = numbers[4 * layer + 3] - mean * gain  # [H]
        if shape.norm_after_relu:
            biases[layer + 1] += shift @ weights[layer + 1]
            weights[layer + 1] *= gain[:, None]
        else:
            weights[layer] *= gain
            biases[layer] = biases[layer] * gain + shift
    return [weight.astype(np.float32) for weight in weights], [bias.astype(np.float32) for bias in biases]


def _first_parameters(shape: NetworkShape, generator: torch.Generator) -> list[torch.Tensor]:
    """Draw one member's, in the order and from the distributions of `torch.nn.Linear` and `BatchNorm1d`."""
    import torch

    parameters = []
    for inputs, outputs in zip((shape.width, *shape.hidden_sizes), (*shape.hidden_sizes, 1), strict=True):
        for size in ((outputs, inputs), (outputs,)):
            drawn = torch.empty(size, device=generator.device)
            parameters.append(drawn.uniform_(-(inputs**-0.5), inputs**-0.5, generator=generator))
        if len(parameters) < 4 * len(shape.hidden_sizes):
            parameters += [torch.ones_like(parameters[-1]), torch.zeros_like(parameters[-1])]
    return parameters


def _normalise(
    hidden: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    gain: torch.Tensor,
    shift: torch.Tensor,
    training: bool,
) -> torch.Tensor:
    """Apply BatchNorm to [k, H, B] over the rows; in training update the running mean and variance [k, H]."""
    from torch.nn.functional import batch_norm

    channels = hidden.reshape(1, -1, hidden.shape[2])  # [1, k * H, B]
    mean, variance, gain, shift = (tensor.reshape(-1) for tensor in (mean, variance, gain, shift))  # [k * H]
    return batch_norm(channels, mean, variance, gain, shift, training, MOMENTUM, EPSILON).reshape(hidden.shape)
