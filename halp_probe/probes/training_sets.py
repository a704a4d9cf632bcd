"""Training sets of probes: all rows, all but one fold, all but two.

The inner folds of an outer fold are the other outer folds, so a probe fitted without folds j and k serves twice: it
judges the candidates for outer fold k on inner fold j, and those for outer fold j on inner fold k.

Legend: N rows, K folds, R training sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from halp_probe.probes.fitting.splits import Folds


@dataclass(frozen=True)
class TrainingSets:
    """Training sets that hold both classes."""

    left_out: tuple[frozenset[int], ...]  # R: the folds that each set leaves out
    train: np.ndarray  # [R, N] bool

    def without(self, *folds: int) -> int | None:
        """Return the number of the set that leaves out just these folds; None when that set lacks a class."""
        wanted = frozenset(folds)
        return self.left_out.index(wanted) if wanted in self.left_out else None

    @property
    def everything(self) -> int:
        """Number of the set of all rows."""
        return self.left_out.index(frozenset())


def training_sets(y: np.ndarray, folds: Folds) -> TrainingSets:
    """Make the training sets; `y` [N] of 0 and 1, both present. Rows that no fold tests are in every set."""
    left_out, train = [], []
    for size in (2, 1, 0):
        for combination in combinations(range(folds.count), size):
            rows = ~np.isin(folds.fold, combination)  # [N]
            if len(np.unique(y[rows])) == 2:
                left_out.append(frozenset(combination))
                train.append(rows)
    return TrainingSets(tuple(left_out), np.stack(train))
