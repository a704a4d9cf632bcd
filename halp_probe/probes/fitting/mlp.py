"""HALP's MLP as a scikit-learn estimator, and many of them trained at once; torch is imported only to train.

Legend: N rows, D width, R training sets, S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from halp_probe.probes.fitting.estimators import BinaryProbe, check_groups, seed_of, two_classes
from halp_probe.probes.fitting.mlp_training import FittedSet, MLPOptions, fit_sets


class MLPProbe(BinaryProbe):
    """The probe of HALP (arXiv 2603.05465): 512-256-128, each Linear, BatchNorm, ReLU, Dropout; then one logit.

    From HALP: the layers, dropout .3, cross-entropy, Adam with learning rate 1e-3, batches of 32, 50 epochs.
    Ours: inputs are standardised, weight decay is 1e-4, and training stops early (HALP: neither of the three; its
    whole design is `presets.HALP`).

    Parameters
    ----------
    hidden_sizes, dropout, learning_rate, weight_decay, batch_size (rows): see above.
    norm_after_relu: Linear, ReLU, BatchNorm, Dropout instead.
    max_epochs: passes over the training rows at most.
    patience: stop after so many epochs without a lower validation loss; the weights of the best epoch are kept. None:
        no row is held out for validation, and all epochs are run.
    validation_parts: one part in so many of the rows, split off by image when `fit` is given `groups`, is the
        validation set. With too few rows of a class there is none, and all epochs are run.
    standardise: subtract the mean and divide by the standard deviation of the rows that are trained on.
    seeds: so many networks are trained on the same rows; their log-odds are averaged.
    random_state: seeds weights, dropout and order of the first network (the next takes the next number) and the
        validation split; torch's global generator is left as it was.

    Attributes
    ----------
    classes_ [2], mean_ [D], scale_ [D], coefs_ and intercepts_ (a [S, inputs, outputs] and an [S, outputs] array for
    each layer, BatchNorm folded in, float32), n_epochs_ [S] (the epochs whose weights are kept), n_features_in_.
    """

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (512, 256, 128),
        dropout: float = 0.3,
        norm_after_relu: bool = False,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        batch_size: int = 32,
        max_epochs: int = 50,
        patience: int | None = 8,
        validation_parts: int = 8,
        standardise: bool = True,
        seeds: int = 1,
        random_state: Any = 0,
    ) -> None:
        self.hidden_sizes = hidden_sizes
        self.dropout = dropout
        self.norm_after_relu = norm_after_relu
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation_parts = validation_parts
        self.standardise = standardise
        self.seeds = seeds
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None) -> MLPProbe:
        """Fit on X [N, D] float and y [N] of two classes.

        `groups` [N] are kept together in the validation split.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=2)
        self.classes_, target = two_classes(y)
        options = replace(MLPOptions(**self.get_params()), random_state=seed_of(self.random_state))
        everything = np.ones((1, len(target)), dtype=bool)
        self._take(fit_sets(X, target, everything, check_groups(groups, len(target)), options)[0])
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return [N] float64 log-odds of `classes_[1]`; numpy alone, so a saved probe scores without torch."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return ensemble_logit((X - self.mean_) / self.scale_, self.coefs_, self.intercepts_)

    def _take(self, fitted: FittedSet) -> None:
        self.mean_, self.scale_ = fitted.mean, fitted.scale
        self.coefs_, self.intercepts_ = fitted.coefs, fitted.intercepts
        self.n_epochs_ = fitted.n_epochs


@dataclass(frozen=True, kw_only=True)
class TrainedMLPs:
    """Networks that `train_mlps` trained on R training sets."""

    logit: np.ndarray  # [R, N] float64 log-odds of label 1 of all rows, trained on or not; the mean over the seeds
    n_epochs: np.ndarray  # [R, S] int: the epochs whose weights are kept
    fitted: tuple[FittedSet, ...]  # R
    options: MLPOptions

    def probe(self, r: int) -> MLPProbe:
        """Return training set r's probe, to be saved or to score with; its log-odds of X are `logit[r]`."""
        probe = MLPProbe(**asdict(self.options))
        probe._take(self.fitted[r])
        probe.classes_, probe.n_features_in_ = np.array([0, 1]), len(probe.mean_)
        return probe


def train_mlps(
    X: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    groups: np.ndarray | None,
    options: MLPOptions,
    device: str = "cpu",
) -> TrainedMLPs:
    """Train S networks on each of R training sets, side by side.

    X [N, D] float32 or float64, y [N] of 0 and 1, train [R, N] bool, groups [N] (kept together in the validation
    splits) or None. What a set learns does not depend on the others, up to the rounding of float32. `device` is "cpu"
    or a CUDA device, where other random numbers are drawn than on the CPU.

    Raises ValueError when a training set lacks a class, or an array has another number of rows.
    """
    _check(X, y, train)
    fitted = fit_sets(X, y, train, check_groups(groups, len(y)), options, device)
    logit = [ensemble_logit((X - one.mean) / one.scale, one.coefs, one.intercepts) for one in fitted]
    return TrainedMLPs(
        logit=np.stack(logit),
        n_epochs=np.stack([one.n_epochs for one in fitted]),
        fitted=tuple(fitted),
        options=options,
    )


def ensemble_logit(X: np.ndarray, coefs: Sequence[np.ndarray], intercepts: Sequence[np.ndarray]) -> np.ndarray:
    """Return [N], the mean log-odds over the seeds; X [N, D] standardised, coefs and intercepts as in `MLPProbe`.

    Files of version 0.1.0 hold one network without the axis of seeds; those arrays are taken as well.
    """
    hidden = X[None]  # [1, N, D], then [S, N, H]
    for number, (weight, bias) in enumerate(zip(coefs, intercepts, strict=True)):
        hidden = np.maximum(hidden, 0) if number else hidden
        hidden = hidden @ weight + (bias[:, None] if bias.ndim == 2 else bias)
    return hidden[..., 0].mean(axis=0)


def _check(X: np.ndarray, y: np.ndarray, train: np.ndarray) -> None:
    if X.ndim != 2 or y.shape != (len(X),) or train.ndim != 2 or train.shape[1] != len(X):
        raise ValueError(f"X {X.shape}, y {y.shape} and train {train.shape} must be [N, D], [N] and [R, N] of one N")
    for r, rows in enumerate(train):
        if len(np.unique(y[rows])) != 2:
            raise ValueError(f"training set {r}: its {rows.sum()} rows lack a class; leave it out")
