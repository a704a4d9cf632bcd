"""The linear probe, a scikit-learn estimator. Legend: N rows, D width, S candidate strengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from halp_probe.probes.regularisation import Prepared, choose_C
from halp_probe.probes.splits import inner_splits

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class LinearProbe(ClassifierMixin, BaseEstimator):
    """Standardised logistic regression whose penalty is chosen inside the training rows.

    Parameters
    ----------
    Cs: candidate inverse strengths of the L2 penalty, as in `LogisticRegression`.
    inner_folds: inner splits that choose among them, by image when `fit` is given `groups`; the scaler is fitted anew
        inside each. The highest mean AUROC wins, of equals the lowest log-loss.
    fallback_C: taken when a class has fewer rows (or there are fewer images) than `inner_folds`.
    max_iter: of the lbfgs solver.
    random_state: seeds the inner splits.

    Attributes
    ----------
    classes_ [2], coef_ [1, D] and intercept_ [1] on standardised inputs, mean_ [D], scale_ [D] (1 for a constant
    feature), C_, inner_scores_ [S] (mean inner AUROC of each candidate; nan when nothing was chosen), n_iter_,
    n_features_in_. A probe that was loaded from a file also has `metadata`.
    """

    metadata: dict[str, Any]

    def __init__(
        self,
        Cs: Sequence[float] = STRENGTHS,
        inner_folds: int = 3,
        fallback_C: float = 1e-2,
        max_iter: int = 1000,
        random_state: Any = 0,
    ) -> None:
        self.Cs = Cs
        self.inner_folds = inner_folds
        self.fallback_C = fallback_C
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None) -> LinearProbe:
        """X [N, D] float, y [N] of two classes, groups [N] (rows of one group stay together in the inner splits)."""
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=2)
        self.classes_, target = two_classes(y)
        splits = inner_splits(target, checked_groups(groups, len(target)), self.inner_folds, seed_of(self.random_state))
        choice = choose_C(
            X,
            target,
            splits,
            prepare=_standardised,
            Cs=tuple(self.Cs),
            fallback_C=self.fallback_C,
            max_iter=self.max_iter,
        )
        self.C_, self.inner_scores_ = choice.C, choice.auroc
        scaler = StandardScaler()
        model = LogisticRegression(C=self.C_, max_iter=self.max_iter).fit(scaler.fit_transform(X), target)
        self.mean_, self.scale_ = scaler.mean_, scaler.scale_
        self.coef_, self.intercept_ = model.coef_.astype(np.float64), model.intercept_.astype(np.float64)
        self.n_iter_ = int(model.n_iter_[0])
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """[N] float64 log-odds of `classes_[1]`."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return ((X - self.mean_) / self.scale_) @ self.coef_[0] + self.intercept_[0]

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


def two_classes(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two classes in order, and `y` as 0 and 1. Raises ValueError for any other number of classes."""
    kind = type_of_target(y, input_name="y", raise_unknown=True)
    if kind != "binary":
        raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
    classes, target = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y has only one class ({classes[0]!r}); a probe needs rows of both classes")
    return classes, target


def seed_of(random_state: Any) -> int:
    """A seed from what scikit-learn takes as random_state: a whole number stands for itself."""
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def probabilities(logit: np.ndarray) -> np.ndarray:
    """[N, 2] from log-odds [N], without overflow."""
    positive = np.exp(-np.logaddexp(0, -logit))
    return np.column_stack([np.exp(-np.logaddexp(0, logit)), positive])


def checked_groups(groups: Any, n: int) -> np.ndarray | None:
    """`groups` as an array [n]."""
    if groups is None:
        return None
    array = np.asarray(groups)
    if array.shape != (n,):
        raise ValueError(f"groups has shape {array.shape}, but there are {n} rows; pass one group for each row")
    return array


def _standardised(train: np.ndarray, test: np.ndarray) -> Prepared:
    """Both are copies made by indexing, so they may be overwritten."""
    scaler = StandardScaler(copy=False)
    return Prepared(train=scaler.fit_transform(train), test=scaler.transform(test))
