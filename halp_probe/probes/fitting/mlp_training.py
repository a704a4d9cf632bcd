"""Training of MLPs on many training sets, several seeds each: batches, early stopping, and the weights that are kept.

Legend: N rows, D width, R training sets, S seeds, M members = R x S, n rows that a member trains on, V rows that
validate it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import numpy as np
from sklearn.preprocessing import StandardScaler

from halp_probe.probes.fitting.mlp_stack import NetworkShape, NetworkStack, Snapshot, fold_batch_norm
from halp_probe.probes.fitting.splits import inner_splits

if TYPE_CHECKING:
    import torch

MEMORY = {"cpu": 2**28, "cuda": 2**34}  # bytes for the weights, gradients and moments of the members of one stack
VALIDATION_ROWS = 512  # of each member at a time


@dataclass(frozen=True, kw_only=True)
class MLPOptions:
    """Parameters of `MLPProbe`, where they are described; `random_state` is the first of the seeds."""

    hidden_sizes: tuple[int, ...] = (512, 256, 128)
    dropout: float = 0.3
    norm_after_relu: bool = False
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    batch_size: int = 32
    max_epochs: int = 50
    patience: int | None = 8
    validation_parts: int = 8
    standardise: bool = True
    seeds: int = 1
    random_state: int = 0


@dataclass(frozen=True, kw_only=True)
class FittedSet:
    """Seeds of one training set, BatchNorm folded in."""

    mean: np.ndarray  # [D] float64, 0 without standardisation
    scale: np.ndarray  # [D] float64, 1 without
    coefs: list[np.ndarray]  # [S, inputs, outputs] float32 of each layer
    intercepts: list[np.ndarray]  # [S, outputs] float32
    n_epochs: np.ndarray  # [S] int: the epochs whose weights are kept


@dataclass(frozen=True, kw_only=True)
class _TrainingSet:
    rows: np.ndarray  # [n] int
    validation: np.ndarray  # [V] int, V may be 0
    mean: np.ndarray  # [D]
    scale: np.ndarray  # [D]


@dataclass(frozen=True)
class _Member:
    """Network to be trained."""

    training_set: _TrainingSet
    seed: int


@dataclass(frozen=True, kw_only=True)
class _Best:
    """Epoch of a member with the lowest validation loss so far; without validation its last epoch."""

    loss: float = np.inf
    epoch: int = 0
    network: Snapshot | None = None  # None before the first


def fit_sets(
    X: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    groups: np.ndarray | None,
    options: MLPOptions,
    device: str = "cpu",
) -> list[FittedSet]:
    """Fit one set of networks for each of the R training sets.

    X [N, D] float, y [N] of 0 and 1, train [R, N] bool, groups [N] or None. Rows of one group stay together in the
    split for validation. On the CPU the members are shared among as many threads of Python as torch has, each with
    one torch thread: the products are too small to be cut further.
    """
    import torch

    sets = [_training_set(X, y, groups, rows, options) for rows in train]
    members = [_Member(one, options.random_state + seed) for one in sets for seed in range(options.seeds)]
    shape = NetworkShape(
        width=X.shape[1],
        hidden_sizes=tuple(options.hidden_sizes),
        dropout=options.dropout,
        norm_after_relu=options.norm_after_relu,
    )
    order = sorted(range(len(members)), key=lambda member: -len(members[member].training_set.rows))
    X = np.require(X, requirements=["C", "W"])  # torch warns of read-only memory
    data = torch.from_numpy(X).to(device), torch.from_numpy(y.astype(np.float32)).to(device)
    workers = torch.get_num_threads() if device == "cpu" else 1
    stacks = [[members[member] for member in part] for part in _shares(order, shape, device, workers)]
    with _one_torch_thread(), ThreadPoolExecutor(workers) as pool:
        trained = list(pool.map(lambda stack: _train_stack(stack, *data, shape, options), stacks))
    by_member = dict(zip(order, (one for stack in trained for one in stack), strict=True))
    return [
        _fitted_set(one, [by_member[r * options.seeds + seed] for seed in range(options.seeds)], shape)
        for r, one in enumerate(sets)
    ]


def _training_set(
    X: np.ndarray, y: np.ndarray, groups: np.ndarray | None, train: np.ndarray, options: MLPOptions
) -> _TrainingSet:
    rows, validation = np.flatnonzero(train), np.arange(0)
    if options.patience is not None:
        inner = groups[rows] if groups is not None else None
        splits = inner_splits(y[rows], inner, options.validation_parts, options.random_state)
        if splits:
            rows, validation = rows[splits[0].train], rows[splits[0].test]
    if not options.standardise:
        return _TrainingSet(rows=rows, validation=validation, mean=np.zeros(X.shape[1]), scale=np.ones(X.shape[1]))
    scaler = StandardScaler().fit(X[rows])
    return _TrainingSet(rows=rows, validation=validation, mean=scaler.mean_, scale=scaler.scale_)


def _shares(order: Sequence[int], shape: NetworkShape, device: str, workers: int) -> list[list[int]]:
    """Divide the members into stacks: one for each worker, or more where all at once exceed the memory for them."""
    sizes = (shape.width, *shape.hidden_sizes, 1)
    weights = sum(inputs * outputs for inputs, outputs in pairwise(sizes))
    most = max(1, MEMORY[_kind(device)] // workers // (4 * 4 * weights))
    count = max(workers, -(-len(order) // most))
    return [part.tolist() for part in np.array_split(order, min(count, len(order)))]


def _kind(device: str) -> str:
    """Return the kind of a device: `cuda:1` -> `cuda`."""
    return device.partition(":")[0]


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Limit torch to one thread inside the block.

    New threads of Python begin with as many torch threads as were set last.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _train_stack(
    members: Sequence[_Member], X: torch.Tensor, y: torch.Tensor, shape: NetworkShape, options: MLPOptions
) -> list[_Best]:
    """Train on X [N, D] and y [N] on the device; the members are in descending order of their rows."""
    import torch

    if X.device.type == "cpu":
        torch.set_num_threads(1)  # of this Python thread
    stack = NetworkStack(shape, [torch.Generator(X.device).manual_seed(member.seed) for member in members])
    inputs = _Inputs([member.training_set for member in members], X, y)
    best = [_Best() for _ in members]
    remaining = list(range(len(members)))  # the members still in the stack
    for epoch in range(1, options.max_epochs + 1):
        _train_epoch(stack, inputs, options)
        losses = inputs.validation_losses(stack)  # [k]
        staying = []
        for place, member in enumerate(remaining):
            if losses[place] < best[member].loss:
                best[member] = _Best(loss=losses[place], epoch=epoch, network=stack.snapshot(place))
            if _continues(best[member], losses[place], epoch, options):
                staying.append(place)
            elif best[member].network is None:
                best[member] = _Best(loss=losses[place], epoch=epoch, network=stack.snapshot(place))
        if not staying:
            break
        if len(staying) < len(remaining):
            stack.keep(staying)
            inputs = inputs.of(staying)
            remaining = [remaining[place] for place in staying]
    return best


def _continues(best: _Best, loss: float, epoch: int, options: MLPOptions) -> bool:
    """Check if a member trains on after `loss` of this epoch.

    It is nan for a member without validation, which runs all epochs.
    """
    if epoch == options.max_epochs:
        return False
    return options.patience is None or bool(np.isnan(loss)) or epoch - best.epoch < options.patience


def _train_epoch(stack: NetworkStack, inputs: _Inputs, options: MLPOptions) -> None:
    """Show each member its rows once, in its own order; members with fewer batches are done earlier."""
    orders = inputs.shuffle_rows(stack.generators)
    batches = [batch_ends(len(order), options.batch_size) for order in orders]
    for step, start in enumerate([0, *batches[0][:-1]]):
        active = [member for member, ends in enumerate(batches) if step < len(ends)]
        for end, run in groupby(active, key=lambda member: batches[member][step]):
            alike = list(run)  # members whose batches have the same number of rows
            rows = [orders[member][start:end] for member in alike]
            X, y = inputs.rows(alike[0], rows)
            stack.train_step(alike[0], alike[-1] + 1, X, y, options.learning_rate, options.weight_decay)


def batch_ends(n: int, size: int) -> list[int]:
    """Return where each batch of n rows ends; a last one of one row, which has no variance, joins the one before."""
    ends = [*range(size, n, size), n]
    if len(ends) > 1 and ends[-1] - ends[-2] == 1:
        del ends[-2]
    return ends


class _Inputs:
    """Standardised rows of the members that are in a stack."""

    def __init__(self, sets: Sequence[_TrainingSet], X: torch.Tensor, y: torch.Tensor) -> None:
        self._sets, self._X, self._y = sets, X, y
        self._mean = self._on_device([one.mean for one in sets])  # [k, D]
        self._scale = self._on_device([one.scale for one in sets])

    def of(self, members: Sequence[int]) -> _Inputs:
        return _Inputs([self._sets[member] for member in members], self._X, self._y)

    def shuffle_rows(self, generators: Sequence[torch.Generator]) -> list[torch.Tensor]:
        """Return the training rows of each member, [n] int, in an order that its generator draws."""
        import torch

        orders = []
        for one, generator in zip(self._sets, generators, strict=True):
            order = torch.randperm(len(one.rows), generator=generator, device=generator.device)
            orders.append(torch.from_numpy(one.rows).to(generator.device)[order])
        return orders

    def rows(self, first: int, rows: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return X [k, B, D] float32 and y [k, B] of the members from `first` on; rows [k][B] int."""
        import torch

        index = torch.stack(list(rows))  # [k, B]
        members = slice(first, first + len(index))
        X = (self._X[index] - self._mean[members, None]).div_(self._scale[members, None])
        return X.float(), self._y[index]

    def validation_losses(self, stack: NetworkStack) -> np.ndarray:
        """Return [k], the mean cross-entropy of each member's validation rows; nan without any."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        counts = np.array([len(one.validation) for one in self._sets])
        total = self._y.new_zeros(len(counts))  # [k]
        for start in range(0, counts.max(), VALIDATION_ROWS):
            width = min(VALIDATION_ROWS, counts.max() - start)
            index, real = np.zeros((len(counts), width), dtype=np.intp), np.zeros((len(counts), width), dtype=bool)
            for member, one in enumerate(self._sets):
                rows = one.validation[start : start + width]
                index[member, : len(rows)], real[member, : len(rows)] = rows, True
            X, y = self.rows(0, list(torch.from_numpy(index).to(total.device)))
            losses = binary_cross_entropy_with_logits(stack.logit(X), y, reduction="none")  # [k, width]
            total += losses.where(torch.from_numpy(real).to(total.device), 0).sum(1)
        return np.divide(total.cpu().numpy(), counts, out=np.full(len(counts), np.nan), where=counts > 0)

    def _on_device(self, rows: Sequence[np.ndarray]) -> torch.Tensor:
        import torch

        return torch.from_numpy(np.stack(rows)).to(self._X)


def _fitted_set(training_set: _TrainingSet, trained: Sequence[_Best], shape: NetworkShape) -> FittedSet:
    networks = [fold_batch_norm(one.network, shape) for one in trained if one.network is not None]
    return FittedSet(
        mean=training_set.mean,
        scale=training_set.scale,
        coefs=[np.stack(layer) for layer in zip(*(coefs for coefs, _ in networks), strict=True)],
        intercepts=[np.stack(layer) for layer in zip(*(intercepts for _, intercepts in networks), strict=True)],
        n_epochs=np.array([one.epoch for one in trained]),
    )
