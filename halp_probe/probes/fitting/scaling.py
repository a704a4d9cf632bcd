"""Standardisation by many training sets at once, folded into products with one copy of the inputs.

Legend: N rows, D width, R training sets, F problems (a training set and a strength each), P pieces: rows that are in
the same training sets, at most so many at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

_ROWS_AT_ONCE = 2048  # converted to float64 at a time: 59 MB at D = 3584


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Means and scales that scikit-learn's StandardScaler learns on each training set."""

    mean: np.ndarray  # [R, D] float64
    scale: np.ndarray  # [R, D] float64, population standard deviation; 1 for a feature that is constant there
    constant: np.ndarray  # [R, D] bool


def moments(X: np.ndarray, train: np.ndarray) -> Moments:
    """Compute the moments of each training set; X [N, D], `train` [R, N] bool.

    Rows in no training set are not looked at. Each piece is summed about its own mean, so a large common offset of
    a feature costs no digits.
    """
    sizes, members, means, squares = [], [], [], []
    for rows in _pieces(train):
        piece = X[rows].astype(np.float64)
        mean = piece.mean(axis=0)
        piece -= mean
        sizes.append(len(rows))
        members.append(train[:, rows[0]])
        means.append(mean)
        squares.append(np.einsum("nd,nd->d", piece, piece))
    count = np.array(members).T * np.array(sizes, dtype=np.float64)  # [R, P] rows of each piece in each training set
    n = count.sum(axis=1)  # [R]
    piece_mean, piece_squares = np.stack(means), np.stack(squares)  # [P, D]
    mean = count @ piece_mean / n[:, None]  # [R, D]
    var = np.stack([c @ (piece_mean - m) ** 2 + (c > 0) @ piece_squares for c, m in zip(count, mean, strict=True)])
    var /= n[:, None]
    eps = np.finfo(np.float64).eps
    constant = var <= n[:, None] * eps * var + (n[:, None] * eps * mean) ** 2  # StandardScaler's own rule
    return Moments(mean=mean, scale=np.where(constant, 1.0, np.sqrt(var)), constant=constant)


@dataclass(frozen=True, kw_only=True)
class ScaledInputs:
    """Standardised inputs of every training set, never written out.

    `X` is centred and scaled once, by the middle training set of each feature, so that no training set's own mean is
    large against its spread and float32 keeps its digits. The rest is a factor and an offset a feature.
    """

    X: Any  # [N, D] of the namespace and dtype in which all is computed
    offset: Any  # [R, D] mean of each training set in units of `X`
    gain: Any  # [R, D] from units of `X` to standard deviations of each training set; 0 for its constant features

    @classmethod
    def of(cls, X: np.ndarray, moments: Moments, dtype: str, xp: Any, device: Any) -> ScaledInputs:
        """Scale `X` [N, D] by these moments, in the dtype and on the device given."""
        scale = np.where(moments.constant, np.nan, moments.scale)
        varying = ~moments.constant.all(axis=0)  # [D]
        centre, unit = np.median(moments.mean, axis=0), np.ones(X.shape[1])
        unit[varying] = np.nanmedian(scale[:, varying], axis=0)
        common = np.empty(X.shape, dtype=dtype)
        for begin in range(0, len(X), _ROWS_AT_ONCE):
            rows = slice(begin, begin + _ROWS_AT_ONCE)
            common[rows] = np.where(varying, (X[rows] - centre) / unit, 0.0)

        def place(array: np.ndarray) -> Any:
            return xp.asarray(array.astype(dtype, copy=False), device=device)

        gain = np.where(moments.constant, 0.0, unit / moments.scale)
        return cls(X=place(common), offset=place((moments.mean - centre) / unit), gain=place(gain))

    def logits(self, coef: Any, sets: Any) -> Any:
        """Return [F, N] of all rows, without intercept.

        `coef` [F, D] on inputs standardised by training sets `sets` [F].
        """
        weight = coef * self.gain[sets]  # [F, D] on `X`
        return weight @ self.X.T - (weight * self.offset[sets]).sum(axis=1)[:, None]

    def gradient(self, slope: Any, sets: Any) -> Any:
        """Return [F, D] of the summed loss.

        `slope` [F, N] is its derivative by the log-odds, 0 outside the training set.
        """
        return (slope @ self.X - slope.sum(axis=1)[:, None] * self.offset[sets]) * self.gain[sets]

    def centre(self, sets: Any, weight: Any) -> Any:
        """Return [N, D] inputs standardised by the training set `sets` [1], about their mean under `weight` [N]."""
        standardised = (self.X - self.offset[sets]) * self.gain[sets]
        return standardised - (weight @ standardised)[None, :] / weight.sum()


def _pieces(train: np.ndarray) -> Iterator[np.ndarray]:
    """Yield rows that are in the same training sets, `_ROWS_AT_ONCE` at most; not rows that are in no set."""
    packed = np.packbits(train, axis=0).T  # [N, bytes]
    _, code = np.unique(packed, axis=0, return_inverse=True)
    code = code.ravel()
    order = np.argsort(code, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
        if train[:, rows[0]].any():
            for begin in range(0, len(rows), _ROWS_AT_ONCE):
                yield rows[begin : begin + _ROWS_AT_ONCE]
