"""Probes that score a weighted sum of standardised inputs, as scikit-learn estimators.

Legend: N rows, D width, J inner splits, S candidate strengths, R training sets of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from halp_probe.probes.fitting.selection import best_candidate
from halp_probe.probes.fitting.solver import Solutions, solve_logistic
from halp_probe.probes.fitting.splits import Split, inner_splits

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
AnyDirection = TypeVar("AnyDirection", bound="DirectionProbe")


class BinaryProbe(ClassifierMixin, BaseEstimator):
    """Predictions of every probe, from its `decision_function` and `classes_`."""

    classes_: np.ndarray  # [2]

    def decision_function(self, X: Any) -> np.ndarray:
        """Return [N] float64, above 0 where `classes_[1]` is the more likely."""
        raise NotImplementedError

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return [N, 2] float64, columns as in `classes_`; the sigmoid of `decision_function`."""
        return probabilities(self.decision_function(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return [N], the more likely class."""
        column = (self.decision_function(X) > 0).astype(np.intp)
        return self.classes_[column]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


class DirectionProbe(BinaryProbe):
    """Base of the probes that score (x - mean_) / scale_ · coef_ + intercept_; subclasses have their own `fit`.

    Attributes
    ----------
    classes_ [2], coef_ [1, D] and intercept_ [1] on standardised inputs, mean_ [D], scale_ [D] (1 for a constant
    feature), n_features_in_.
    """

    def adopt(self: AnyDirection, found: Solutions, r: int, s: int) -> AnyDirection:
        """Become fitted as training set `r` at strength `s` of a batch on labels 0 and 1; return self."""
        self.mean_, self.scale_ = found.mean[r].copy(), found.scale[r].copy()
        self.coef_, self.intercept_ = found.coef[r, s][None].copy(), found.intercept[r, s : s + 1].copy()
        self.classes_ = np.arange(2)
        self.n_features_in_ = len(self.mean_)
        self.n_iter_ = int(found.iterations[r, s])
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return [N] float64, above 0 where `classes_[1]` is the more likely."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return ((X - self.mean_) / self.scale_) @ self.coef_[0] + self.intercept_[0]

    def _validate(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return X [N, D] float, the two classes, and y [N] as 0 and 1."""
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=2)
        return X, *two_classes(y)


class LinearProbe(DirectionProbe):
    """Standardised logistic regression whose penalty is chosen inside the training rows; a scikit-learn estimator.

    Parameters
    ----------
    Cs
        S candidate inverse strengths of the L2 penalty, as in `LogisticRegression`.
    inner_folds
        Inner splits that choose among them, by image when `fit` is given `groups`; inputs are standardised anew inside
        each. The highest mean AUROC wins, of equals the lowest log-loss.
    fallback_C
        Taken when a class has fewer rows (or there are fewer images) than `inner_folds`.
    max_iter
        The largest number of the solver's iterations.
    random_state
        Seed of the inner splits.

    Attributes
    ----------
    coef_ : numpy.ndarray
        [1, D] float64, of the standardised inputs.
    intercept_ : numpy.ndarray
        [1] float64.
    mean_, scale_ : numpy.ndarray
        [D] float64, of the training rows.
    C_ : float
        The strength that was chosen.
    inner_scores_ : numpy.ndarray
        [S] float64: the mean inner AUROC of each candidate; nan when nothing was chosen.
    n_iter_ : int
        Iterations of the solver.

    Raises
    ------
    ValueError
        By `fit` and the predictions, as in scikit-learn: for values that are not finite, for one class alone, and for
        rows of another width.

    Examples
    --------
    >>> import halp_probe
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)  # [N], 1 for a wrong answer
    >>> X = rng.normal(size=(200, 8)) + y[:, None]  # [N, D]
    >>> probe = halp_probe.LinearProbe().fit(X, y, groups=np.arange(200) // 4)  # four questions an image
    >>> probe.C_ in probe.Cs, probe.predict_proba(X).shape
    (True, (200, 2))
    """

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
        """Fit on X [N, D] float and y [N] of two classes.

        `groups` [N]: rows of one group stay together in the inner splits. The inner splits and all rows are one
        batch of the solver.
        """
        X, classes, target = self._validate(X, y)
        groups = check_groups(groups, len(target))
        Cs = tuple(self.Cs)
        seed = seed_of(self.random_state)
        splits = inner_splits(target, groups, self.inner_folds, seed) if len(Cs) > 1 else ()
        if len(Cs) > 1 and not splits:
            Cs = (self.fallback_C,)
        found = solve_logistic(X, target, _masks(splits, len(target)), Cs, max_iter=self.max_iter)
        index, self.inner_scores_ = 0, np.full(len(self.Cs), np.nan)
        if splits:
            choice = best_candidate(found.logit[:-1], target, [split.test for split in splits])
            index, self.inner_scores_ = choice.index, choice.auroc
        self.adopt(found, -1, index)
        self.C_, self.classes_ = Cs[index], classes
        return self


def linear_probe(
    found: Solutions, r: int, s: int, template: LinearProbe, inner_scores: np.ndarray | None = None
) -> LinearProbe:
    """Return a fitted copy of `template` from a batch solved at the template's Cs, without fitting it again.

    It is training set `r` at `template.Cs[s]`, on labels 0 and 1; `inner_scores` [S] are the AUROCs that chose it.
    """
    probe = clone(template).adopt(found, r, s)
    probe.C_ = tuple(template.Cs)[s]
    probe.inner_scores_ = np.full(len(template.Cs), np.nan) if inner_scores is None else inner_scores
    return probe


def _masks(splits: Sequence[Split], n: int) -> np.ndarray:
    """Return [J + 1, n] bool: the training rows of each split, and all rows last."""
    train = np.ones((len(splits) + 1, n), dtype=bool)
    for row, split in zip(train, splits, strict=False):
        row[:] = False
        row[split.train] = True
    return train


def two_classes(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two classes in order, and `y` as 0 and 1.

    Raises ValueError for any other number of classes.
    """
    kind = type_of_target(y, input_name="y", raise_unknown=True)
    if kind != "binary":
        raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
    classes, target = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y has only one class ({classes[0]!r}); a probe needs rows of both classes")
    return classes, target


def seed_of(random_state: Any) -> int:
    """Return a seed from what scikit-learn takes as random_state: a whole number stands for itself."""
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def probabilities(logit: np.ndarray) -> np.ndarray:
    """Return [N, 2] probabilities from log-odds [N], without overflow."""
    positive = np.exp(-np.logaddexp(0, -logit))
    return np.column_stack([np.exp(-np.logaddexp(0, logit)), positive])


def check_groups(groups: Any, n: int) -> np.ndarray | None:
    """Return `groups` as an array [n]. Raises ValueError for another shape."""
    if groups is None:
        return None
    array = np.asarray(groups)
    if array.shape != (n,):
        raise ValueError(f"groups has shape {array.shape}, but there are {n} rows; pass one group for each row")
    return array
