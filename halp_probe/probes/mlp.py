"""HALP's MLP as a scikit-learn estimator; torch is imported only to train it.

Legend: N rows, D width, H units of a hidden layer.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data

from halp_probe.probes.estimators import checked_groups, probabilities, seed_of, two_classes
from halp_probe.probes.splits import Split, inner_splits

if TYPE_CHECKING:
    import torch


class MLPProbe(ClassifierMixin, BaseEstimator):
    """The probe of HALP (arXiv 2603.05465): 512-256-128, each Linear, BatchNorm, ReLU, Dropout; then one logit.

    From HALP: the layers, dropout .3, cross-entropy, Adam with learning rate 1e-3, batches of 32, 50 epochs.
    Ours: inputs are standardised, weight decay is 1e-4, and training stops early (HALP: neither of the three).

    Parameters
    ----------
    hidden_sizes, dropout, learning_rate, weight_decay, batch_size (rows): see above.
    max_epochs: passes over the training rows at most.
    patience: stop after so many epochs without a lower validation loss; the weights of the best epoch are kept.
    validation_parts: one part in so many of the rows, split off by image when `fit` is given `groups`, is the
        validation set. With too few rows of a class there is none, and all epochs are run.
    random_state: seeds weights, dropout, order and validation split; torch's global generator is left as it was.

    Attributes
    ----------
    classes_ [2], mean_ [D], scale_ [D], coefs_ and intercepts_ (a [inputs, outputs] matrix and an [outputs] vector for
    each layer, BatchNorm folded in, float32), n_epochs_ (the epoch whose weights are kept), n_features_in_. A probe
    that was loaded from a file also has `metadata`.
    """

    metadata: dict[str, Any]

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (512, 256, 128),
        dropout: float = 0.3,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        batch_size: int = 32,
        max_epochs: int = 50,
        patience: int = 8,
        validation_parts: int = 8,
        random_state: Any = 0,
    ) -> None:
        self.hidden_sizes = hidden_sizes
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation_parts = validation_parts
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None) -> MLPProbe:
        """X [N, D] float, y [N] of two classes, groups [N] (kept together in the validation split)."""
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=2)
        self.classes_, target = two_classes(y)
        seed = seed_of(self.random_state)
        splits = inner_splits(target, checked_groups(groups, len(target)), self.validation_parts, seed)
        split = splits[0] if splits else Split(train=np.arange(len(target)), test=np.arange(0))
        scaler = StandardScaler().fit(X[split.train])
        self.mean_, self.scale_ = scaler.mean_, scaler.scale_
        with _seeded_single_thread(seed):
            network = _network(X.shape[1], tuple(self.hidden_sizes), self.dropout)
            self.n_epochs_ = self._train(network, _tensors(scaler.transform(X), target, split))
        self.coefs_, self.intercepts_ = _folded(network)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """[N] float64 log-odds of `classes_[1]`; numpy alone, so a saved probe scores without torch."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        hidden = (X - self.mean_) / self.scale_  # [N, D]
        for weight, bias in zip(self.coefs_[:-1], self.intercepts_[:-1], strict=True):
            hidden = np.maximum(hidden @ weight + bias, 0)  # [N, H]
        return (hidden @ self.coefs_[-1] + self.intercepts_[-1])[:, 0]

    def predict_proba(self, X: Any) -> np.ndarray:
        """[N, 2] float64, columns as in `classes_`."""
        return probabilities(self.decision_function(X))

    def predict(self, X: Any) -> np.ndarray:
        """[N] the more likely class."""
        column = (self.decision_function(X) > 0).astype(np.intp)
        return self.classes_[column]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _train(self, network: torch.nn.Sequential, data: _Tensors) -> int:
        """Train in place; the network ends with the weights of the best epoch, whose number is returned."""
        import torch

        optimiser = torch.optim.Adam(network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        loss_of = torch.nn.BCEWithLogitsLoss()
        best_loss, best_epoch, best = np.inf, 0, None
        for epoch in range(1, self.max_epochs + 1):
            network.train()
            for rows in _batches(len(data.y), self.batch_size):
                optimiser.zero_grad()
                loss_of(network(data.X[rows])[:, 0], data.y[rows]).backward()
                optimiser.step()
            network.eval()
            if not len(data.y_validation):
                continue
            with torch.no_grad():
                loss = float(loss_of(network(data.X_validation)[:, 0], data.y_validation))
            if loss < best_loss:
                best_loss, best_epoch, best = loss, epoch, copy.deepcopy(network.state_dict())
            elif epoch - best_epoch >= self.patience:
                break
        if best is None:
            return self.max_epochs
        network.load_state_dict(best)
        return best_epoch


@dataclass(frozen=True)
class _Tensors:
    X: torch.Tensor  # [n, D] float32
    y: torch.Tensor  # [n] float32
    X_validation: torch.Tensor  # [v, D] float32, v may be 0
    y_validation: torch.Tensor  # [v] float32


@contextmanager
def _seeded_single_thread(seed: int) -> Iterator[None]:
    """torch with random numbers from this seed, on one thread; afterwards both are as before, and no GPU was touched.

    Batches of 32 rows are too small to share: on two cores, one of them busy, two threads were 8 to 47 times slower.
    """
    import torch

    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _network(width: int, hidden_sizes: Sequence[int], dropout: float) -> torch.nn.Sequential:
    from torch import nn

    layers: list[nn.Module] = []
    for inputs, outputs in zip((width, *hidden_sizes), hidden_sizes, strict=False):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear((width, *hidden_sizes)[-1], 1))


def _tensors(X: np.ndarray, target: np.ndarray, split: Split) -> _Tensors:
    import torch

    def rows(array: np.ndarray, index: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array[index].astype(np.float32))

    return _Tensors(rows(X, split.train), rows(target, split.train), rows(X, split.test), rows(target, split.test))


def _batches(n: int, size: int) -> list[torch.Tensor]:
    """Shuffled rows in batches; a last batch of one row, from which BatchNorm has no variance, joins the one before."""
    import torch

    batches = list(torch.randperm(n).split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _folded(network: torch.nn.Sequential) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights [inputs, outputs] and biases [outputs] of each layer, the running BatchNorm multiplied in."""
    from torch import nn

    weights, biases = [], []
    for layer in network:
        if isinstance(layer, nn.Linear):
            weights.append(layer.weight.detach().double().numpy().T.copy())
            biases.append(layer.bias.detach().double().numpy().copy())
        elif isinstance(layer, nn.BatchNorm1d):
            assert layer.running_var is not None and layer.running_mean is not None
            gain = layer.weight.detach().double() / (layer.running_var.double() + layer.eps).sqrt()
            weights[-1] *= gain.numpy()
            biases[-1] = (biases[-1] - layer.running_mean.double().numpy()) * gain.numpy() + layer.bias.detach().numpy()
    return [w.astype(np.float32) for w in weights], [b.astype(np.float32) for b in biases]
