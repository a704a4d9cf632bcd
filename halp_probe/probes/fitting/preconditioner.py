"""Preconditioner: an approximate inverse of every problem's Hessian, from one factorisation for all of them.

It serves all training sets and strengths. Legend: N rows, D width, F problems, Q directions that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_EXACT = 600  # widths (or rows) up to this are factorised exactly
_DIRECTIONS = 400
_PASSES = 2  # over X before the directions are taken


@dataclass(frozen=True, kw_only=True)
class Preconditioner:
    """Inverse (c XᵀWX + I)⁻¹ for any c, where XᵀWX is known in its leading directions and flat outside them.

    The eigenvalues are shifted for each problem, as in Nyström preconditioning (Frangella, Tropp & Udell 2021,
    arXiv 2110.02820); the directions come from subspace iteration (Halko, Martinsson & Tropp 2011, arXiv 0909.4061).
    It changes how soon the optimum is reached, never which one.
    """

    directions: Any  # [D, Q] orthonormal
    eigenvalues: Any  # [Q]
    tail: Any  # scalar array: eigenvalue of all other directions

    def apply(self, gradient: Any, c: Any) -> Any:
        """Return [F, D]; `gradient` [F, D], `c` [F] is each problem's summed curvature over the summed row weights."""
        outside = 1 / (c * self.tail + 1)  # [F]
        inside = 1 / (c[:, None] * self.eigenvalues + 1)  # [F, Q]
        shares = (gradient @ self.directions) * (inside - outside[:, None])  # [F, Q]
        return shares @ self.directions.T + gradient * outside[:, None]


def preconditioner(X: Any, weight: Any, xp: Any) -> Preconditioner:
    """Factorise `X` [N, D] with row weights [N]: exactly for narrow or short X, else in the leading directions."""
    rows, width = X.shape
    weighted = X * xp.sqrt(weight)[:, None]  # [N, D]
    if width <= _EXACT:
        values, vectors = xp.linalg.eigh(_double(weighted.T @ weighted, xp))
        return _of(vectors, values, values[0], X, xp)
    if rows <= _EXACT:
        values, vectors = xp.linalg.eigh(_double(weighted @ weighted.T, xp))
        kept = values > 1e-6 * values[-1]
        values, vectors = values[kept], vectors[:, kept]
        return _of(_double(weighted.T, xp) @ (vectors / xp.sqrt(values)), values, 0 * values[:1].sum(), X, xp)
    basis = weighted[_spread(rows), :].T  # [D, Q] a start from rows spread over all
    for _ in range(_PASSES):
        basis = weighted.T @ (weighted @ xp.linalg.qr(basis)[0])
    basis = xp.linalg.qr(basis)[0]
    scores = weighted @ basis  # [N, Q]
    values, vectors = xp.linalg.eigh(_double(scores.T @ scores, xp))
    return _of(_double(basis, xp) @ vectors, values, values[0], X, xp)


def _spread(rows: int) -> slice:
    return slice(0, rows, max(1, rows // _DIRECTIONS))


def _double(array: Any, xp: Any) -> Any:
    return xp.astype(array, xp.float64)


def _of(directions: Any, values: Any, tail: Any, X: Any, xp: Any) -> Preconditioner:
    """Return the preconditioner in the dtype of `X`; what rounding made negative is 0."""
    zero = 0 * tail
    values, tail = xp.where(values > 0, values, zero), xp.where(tail > 0, tail, zero)
    return Preconditioner(
        directions=xp.astype(directions, X.dtype),
        eigenvalues=xp.astype(values, X.dtype),
        tail=xp.astype(tail, X.dtype),
    )
