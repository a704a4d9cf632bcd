"""Simpler probes to compare a LinearProbe with: difference of means, and ridge. Legend: N rows, D width."""

from __future__ import annotations

from typing import Any

import numpy as np

from halp_probe.probes.fitting.estimators import DirectionProbe
from halp_probe.probes.fitting.solver import difference_of_means, solve_ridge


class DifferenceOfMeansProbe(DirectionProbe):
    """Direction from one class's mean to the other's, on standardised inputs; the threshold is half way.

    Marks & Tegmark 2023 (arXiv 2310.06824). `predict_proba` is the sigmoid of the score, in order but not calibrated:
    the score's unit is that of the direction's squared length.
    """

    def fit(self, X: Any, y: Any, groups: Any = None) -> DifferenceOfMeansProbe:
        """Fit on X [N, D] float and y [N] of two classes; `groups` change nothing, there is nothing to choose."""
        X, classes, target = self._validate(X, y)
        self.adopt(difference_of_means(X, target, np.ones((1, len(target)), dtype=bool)), 0, 0)
        self.classes_ = classes
        return self


class RidgeProbe(DirectionProbe):
    """Least squares on targets -1 and +1 with an L2 penalty, on standardised inputs: `RidgeClassifier(alpha=1 / C)`.

    `predict_proba` is the sigmoid of the predicted target, in order but not calibrated.

    Parameters
    ----------
    C: inverse strength of the penalty, 1 / alpha.
    max_iter: of the solver.
    """

    def __init__(self, C: float = 1e-2, max_iter: int = 1000) -> None:
        self.C = C
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any, groups: Any = None) -> RidgeProbe:
        """Fit on X [N, D] float and y [N] of two classes; `groups` change nothing, there is nothing to choose."""
        X, classes, target = self._validate(X, y)
        train = np.ones((1, len(target)), dtype=bool)
        self.adopt(solve_ridge(X, target, train, (self.C,), max_iter=self.max_iter), 0, 0)
        self.C_, self.classes_ = self.C, classes
        return self
