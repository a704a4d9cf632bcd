"""Principal components of all representations together, and a logistic regression on the leading ones.

The components are those of the standardised inputs of each training set, by randomised subspace iteration (Halko,
Martinsson & Tropp 2011, arXiv 0909.4061, algorithm 4.4), with one representation in memory at a time.

Legend: N rows, R training sets, B representations, D width of one, B · D width of all, L directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from halp_probe.probes.fitting.kinds import FittedCandidates
from halp_probe.probes.fitting.scaling import Moments, moments
from halp_probe.probes.fitting.solver import solve_logistic
from halp_probe.probes.fusion.fused import FusedProbe, Part, direction
from halp_probe.probes.fusion.stacking import plain_weights

RANKS = (4, 16, 64)
_STRENGTH = 1.0  # of the penalty on standardised components: their number is what is chosen
_FURTHER = 16  # directions beyond the largest rank, which make the leading ones exact
_ITERATIONS = 3
_FEW_INPUTS = 256  # all of whose components are computed: exact, also where none of them leads

ReadBlock = Callable[[str], np.ndarray]  # a representation -> [N, D] float32


class _Inputs:
    """Standardised inputs of every training set, side by side; a representation is read when it is needed."""

    def __init__(self, names: Sequence[str], read: ReadBlock, train: np.ndarray) -> None:
        self.moments: dict[str, Moments] = {}
        self.columns: dict[str, slice] = {}
        self._read, self._train = read, train
        end = 0
        for name in names:
            X = read(name)
            self.moments[name] = moments(X, train)
            begin, end = end, end + X.shape[1]
            self.columns[name] = slice(begin, end)
        self.width = end

    def blocks(self) -> Iterator[tuple[slice, int, np.ndarray]]:
        """Yield the columns, the training set and [N, D] float32 of it, of each pair of the two."""
        for name, columns in self.columns.items():
            X, known = self._read(name), self.moments[name]
            for r in range(len(self._train)):
                scaled = (X - known.mean[r].astype(np.float32)) / known.scale[r].astype(np.float32)
                scaled[:, known.constant[r]] = 0.0
                yield columns, r, scaled

    def project(self, along: np.ndarray) -> np.ndarray:
        """Return [R, N, L] float32: all rows on directions [R, B · D, L]."""
        n_sets, n_rows = self._train.shape
        found = np.zeros((n_sets, n_rows, along.shape[2]), dtype=np.float32)
        for columns, r, scaled in self.blocks():
            found[r] += scaled @ along[r, columns]
        return found

    def back(self, weights: np.ndarray) -> np.ndarray:
        """Return [R, B · D, L] float32: the training rows' inputs, added up with weights [R, N, L]."""
        found = np.zeros((len(self._train), self.width, weights.shape[2]), dtype=np.float32)
        for columns, r, scaled in self.blocks():
            rows = self._train[r]
            found[r, columns] = scaled[rows].T @ weights[r, rows]
        return found


def fit_components(
    names: Sequence[str], read: ReadBlock, y: np.ndarray, train: np.ndarray, ranks: Sequence[int] = RANKS
) -> FittedCandidates:
    """Fit on every training set; `y` [N] of 0 and 1, `train` [R, N] bool. The candidates are numbers of components.

    The fitted probes are `FusedProbe`s with one part a representation.
    """
    inputs = _Inputs(names, read, train)
    most = min(int(train.sum(axis=1).min()) - 1, inputs.width)
    usable = tuple(rank for rank in ranks if rank <= most) or (most,)
    along = _leading(inputs, train, usable[-1])  # [R, B · D, L]
    projected = inputs.project(along).astype(np.float64)
    logit = np.empty((len(train), len(usable), len(y)))
    weights: dict[tuple[int, int], tuple[np.ndarray, float]] = {}
    for r, rows in enumerate(train):
        for c, rank in enumerate(usable):
            found = solve_logistic(projected[r, :, :rank], y, rows[None], (_STRENGTH,))
            logit[r, c] = found.logit[0, 0]
            weights[r, c] = plain_weights(found, 0, 0)

    def probe(r: int, c: int) -> FusedProbe:
        coef, intercept = weights[r, c]  # [rank]
        parts = []
        for name, columns in inputs.columns.items():
            known = inputs.moments[name]
            of_inputs = along[r, columns, : len(coef)].astype(np.float64) @ coef  # [D]
            estimator = direction(known.mean[r], known.scale[r], np.where(known.constant[r], 0.0, of_inputs))
            parts.append(Part(inputs=(name,), estimator=estimator, weight=1.0))
        return FusedProbe(parts=tuple(parts), intercept=intercept)

    return FittedCandidates(candidates=tuple(map(float, usable)), logit=logit, probe=probe)


def _leading(inputs: _Inputs, train: np.ndarray, rank: int) -> np.ndarray:
    """Return [R, B · D, rank] float32: the leading right singular vectors of each training set's inputs, in order."""
    wanted = inputs.width if inputs.width <= _FEW_INPUTS else rank + _FURTHER
    n_directions = min(wanted, int(train.sum(axis=1).min()))
    start = np.random.default_rng(0).standard_normal((inputs.width, n_directions)).astype(np.float32)
    along = np.broadcast_to(start, (len(train), *start.shape))
    for _ in range(_ITERATIONS):
        sample = np.where(train[:, :, None], inputs.project(along), 0.0)  # [R, N, L]
        basis = np.stack([np.linalg.qr(each)[0] for each in sample])
        along = np.stack([np.linalg.svd(each, full_matrices=False)[0] for each in inputs.back(basis)])
    return along[:, :, :rank]
