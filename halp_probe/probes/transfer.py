"""Transfer of a probe trained on one group of rows (one source of questions, say) to the errors of another.

Legend: N rows, K folds, G groups, R training sets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from halp_probe.bootstrap import Draws, Estimate
from halp_probe.probes.fitting.kinds import Fitter
from halp_probe.probes.fitting.splits import Folds, folds_of
from halp_probe.probes.judging.metrics import judge
from halp_probe.probes.judging.rows import Rows
from halp_probe.probes.nested import cross_fit, spread
from halp_probe.probes.training_sets import training_sets

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
    values: tuple[str, ...]  # G
    cells: tuple[tuple[Cell, ...], ...]  # [G][G]
    chosen: tuple[Counter[str], ...]  # G: in how many folds each representation was chosen, by the group's own rows

    @property
    def most_chosen(self) -> str:
        """Representation that the groups' rows chose in the most folds; "" where none could be fitted."""
        counts: Counter[str] = sum(self.chosen, Counter())
        return counts.most_common(1)[0][0] if counts else ""


def transfer(
    vectors: Mapping[str, Callable[[], np.ndarray]],
    fitter_of: Callable[[np.ndarray], Fitter],
    column: str,
    values: Sequence[str],
    y: np.ndarray,
    folds: Folds,
    images: np.ndarray,
    draws: Draws,
) -> Transfer:
    """Judge every group's probe on every group, on the same folds, so that test images are new even within a group.

    `vectors`: representation -> a function that reads it [N, D]; `fitter_of`: images of some rows -> what fits probes
    on them; `values`, `y` and `images` have N items. A probe knows its training group alone: for each test fold its
    representation and its candidate (the strength of the penalty) are chosen by inner folds of that group's training
    rows.
    """
    names, codes = np.unique(np.asarray(values), return_inverse=True)
    tested_by = [k for k in range(folds.count) if k not in folds.unjudged]
    groups = [
        _GroupProbes.none(y, codes == a, folds, tested_by, fitter_of(images[codes == a])) for a in range(len(names))
    ]
    for representation, read in vectors.items():
        X = read()
        for group in groups:
            group.try_out(representation, X)

    def cell(a: int, b: int) -> Cell:
        inside = (codes == b) & np.isin(folds.fold, tested_by)
        counts = {
            "n_train": groups[a].n_train,
            "n_test": int(inside.sum()),
            "n_test_positive": int(y[inside].sum()),
        }
        weak = min(groups[a].smallest)
        for count, what in ((weak, "a training set"), (min(np.bincount(y[inside], minlength=2)), "the test rows")):
            if count < MINIMUM_PER_CLASS:
                reason = f"only {count} rows of the rarer label in {what}"
                return Cell(auroc=Estimate(value=np.nan, low=np.nan, high=np.nan, note=reason), **counts)
        fold, known = folds.fold[inside], groups[a].models[:, inside]
        score = known[np.searchsorted(tested_by, fold), np.arange(len(fold))]  # each row by the model of its own fold
        spreads = {"cell": spread(known, y[inside])}
        judged = judge({"cell": score}, Rows(y=y[inside], fold=fold, images=images[inside]), draws, spreads)
        return Cell(auroc=judged["cell"].estimate, **counts)

    cells = tuple(tuple(cell(a, b) for b in range(len(names))) for a in range(len(names)))
    return Transfer(
        column=column,
        values=tuple(map(str, names)),
        cells=cells,
        chosen=tuple(Counter(name for name in group.chosen if name) for group in groups),
    )


@dataclass(kw_only=True)
class _GroupProbes:
    """Probes of one group: for each test fold the best so far, by inner folds of the group's own training rows."""

    y: np.ndarray  # [N]
    group: np.ndarray  # [N] bool
    folds: Folds
    tested_by: list[int]  # K
    fit: Fitter
    smallest: list[int]  # K: rows of the rarer label in the training set
    n_train: int  # of the smallest training set
    best: list[float]  # K: inner AUROC
    chosen: list[str]  # K
    models: np.ndarray  # [K, N] log-odds of all rows

    @classmethod
    def none(cls, y: np.ndarray, group: np.ndarray, folds: Folds, tested_by: list[int], fit: Fitter) -> _GroupProbes:
        """Return the start, at which nothing is fitted."""
        train = [group & (folds.fold != k) for k in tested_by]
        return cls(
            y=y,
            group=group,
            folds=folds,
            tested_by=tested_by,
            fit=fit,
            smallest=[int(min(np.bincount(y[rows], minlength=2))) for rows in train],
            n_train=min(int(rows.sum()) for rows in train),
            best=[-np.inf] * len(tested_by),
            chosen=[""] * len(tested_by),
            models=np.full((len(tested_by), len(y)), np.nan),
        )

    def try_out(self, representation: str, X: np.ndarray) -> None:
        """Fit this representation on the group's rows, and keep it for the folds in which it is the best so far.

        Of other rows neither vectors nor labels are looked at before the choice is made.
        """
        if max(self.smallest) < MINIMUM_PER_CLASS:
            return
        y = self.y[self.group]
        own = folds_of(self.folds.fold[self.group], y)
        sets = training_sets(y, own)
        fitted = self.fit(X[self.group], y, sets.train)
        found = cross_fit(fitted, y, own, sets)
        for place, k in enumerate(self.tested_by):
            score = np.nan_to_num(found.inner_auroc[k], nan=-1.0) if k < own.count else -1.0
            if self.smallest[place] < MINIMUM_PER_CLASS or score <= self.best[place]:
                continue
            left_out = sets.everything if k >= own.count else sets.without(k)
            candidate = int(found.candidate[k]) if k < own.count else len(found.candidates) // 2
            if left_out is not None:
                self.best[place], self.chosen[place] = float(score), representation
                self.models[place] = fitted.probe(left_out, candidate).decision_function(X)
