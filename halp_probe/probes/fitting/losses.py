"""Losses of the solver, each with its derivatives by the score. Legend: N rows, F problems."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Values of a loss and its derivatives, all [F, N]."""

    value: Any
    slope: Any
    curvature: Any


@dataclass(frozen=True)
class Loss:
    """Convex loss of a score and a sign: -1 for label 0, +1 for label 1."""

    terms: Callable[[Any, Any, Any], Terms]  # score [F, N], sign [N], array namespace
    constant_score: Callable[[np.ndarray], np.ndarray]  # the best score without inputs, from the share of label 1


def _logistic(score: Any, sign: Any, xp: Any) -> Terms:
    """Compute -log sigmoid(margin); nothing overflows, and no small probability is made by subtraction from 1."""
    margin = score * sign
    small = xp.exp(-xp.abs(margin))  # in (0, 1]
    wrong = xp.exp(0.5 * (-margin - xp.abs(margin)))  # exp(-margin) where that is below 1, else 1
    whole = 1 / (1 + small)
    probability = wrong * whole  # of the other label
    value = xp.log1p(small) + 0.5 * (xp.abs(margin) - margin)
    return Terms(value=value, slope=-sign * probability, curvature=small * whole * whole)


def _squared(score: Any, sign: Any, xp: Any) -> Terms:
    slope = score - sign
    return Terms(value=0.5 * slope * slope, slope=slope, curvature=xp.ones_like(score))


LOGISTIC = Loss(_logistic, lambda share: np.log(share / (1 - share)))
SQUARED = Loss(_squared, lambda share: 2 * share - 1)
