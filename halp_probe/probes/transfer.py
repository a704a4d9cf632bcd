"""Transfer of a probe trained on one group of rows (one source of questions, say) to the errors of another.

Legend: N rows, K folds, G groups, R training sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from halp_probe.bootstrap import Draws, Estimate
from halp_probe.probes.fitting.kinds import Fitter
from halp_probe.probes.fitting.splits import Folds
from halp_probe.probes.judging.metrics import judge
from halp_probe.probes.judging.rows import Rows
from halp_probe.probes.nested import CrossFit, spread

MINIMUM_PER_CLASS = 10  # rows of each label, in every training set of a cell and in all its test rows
MOST_GROUPS = 12


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Result of training on the rows of one group and judging on those of another, or of the same.

    The AUROC is the mean over the test folds.
    """

    auroc: Estimate  # with the reason where there is none
    n_train: int  # of the smallest training set
    n_test: int
    n_test_positive: int


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Transfers between all groups of a column; `cells[a][b]` is trained on `values[a]` and judged on `values[b]`."""

    column: str
    representation: str
    values: tuple[str, ...]  # G
    cells: tuple[tuple[Cell, ...], ...]  # [G][G]


@dataclass(frozen=True, kw_only=True)
class TransferTask:
    """Representation to transfer, and how its candidates were chosen on the whole data."""

    representation: str
    X: np.ndarray  # [N, D]
    fit: Fitter
    whole: CrossFit


def transfer(
    task: TransferTask,
    column: str,
    values: Sequence[str],
    y: np.ndarray,
    folds: Folds,
    images: np.ndarray,
    draws: Draws,
) -> Transfer:
    """Judge every group's probe on every group, on the same folds, so that test images are new even within a group.

    `values`, `y` and `images` have N items. A fold's candidate (the strength of the penalty) is the one chosen for it
    on the training rows of all groups.
    """
    names, codes = np.unique(np.asarray(values), return_inverse=True)
    tested_by = [k for k in range(folds.count) if k not in folds.unjudged]
    train = np.stack([(codes == a) & (folds.fold != k) for a in range(len(names)) for k in tested_by])  # [G·K, N]
    smallest = np.array([min(np.bincount(y[rows], minlength=2)) for rows in train])  # [R]
    usable = np.flatnonzero(smallest >= MINIMUM_PER_CLASS)
    models = np.full((len(names), len(tested_by), len(y)), np.nan)  # [G, K, N]
    if len(usable):
        fitted = task.fit(task.X, y, train[usable])
        for r, logit in zip(usable, fitted.logit, strict=True):
            a, k = divmod(r, len(tested_by))
            models[a, k] = logit[task.whole.candidate[tested_by[k]]]
    rows_of = train.sum(axis=1).reshape(len(names), -1)  # [G, K]
    weak = smallest.reshape(len(names), -1).min(axis=1)  # [G]

    def cell(a: int, b: int) -> Cell:
        inside = (codes == b) & np.isin(folds.fold, tested_by)
        counts = {
            "n_train": int(rows_of[a].min()),
            "n_test": int(inside.sum()),
            "n_test_positive": int(y[inside].sum()),
        }
        for count, what in ((weak[a], "a training set"), (min(np.bincount(y[inside], minlength=2)), "the test rows")):
            if count < MINIMUM_PER_CLASS:
                reason = f"only {count} rows of the rarer label in {what}"
                return Cell(auroc=Estimate(value=np.nan, low=np.nan, high=np.nan, note=reason), **counts)
        fold, known = folds.fold[inside], models[a][:, inside]
        score = known[np.searchsorted(tested_by, fold), np.arange(len(fold))]  # each row by the model of its own fold
        spreads = {"cell": spread(known, y[inside])}
        judged = judge({"cell": score}, Rows(y=y[inside], fold=fold, images=images[inside]), draws, spreads)
        return Cell(auroc=judged["cell"].estimate, **counts)

    cells = tuple(tuple(cell(a, b) for b in range(len(names))) for a in range(len(names)))
    return Transfer(column=column, representation=task.representation, values=tuple(map(str, names)), cells=cells)
