"""Weights of either label at each distinct score: what every measure of a risk score is a function of.

Legend: N rows, U distinct scores, B bootstrap draws, P places along the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Rows gathered by score, the least risky first; rows of one score cannot be distinguished."""

    score: np.ndarray  # [U] increasing
    positive: np.ndarray  # [U, B] weight of label 1 at this score
    negative: np.ndarray  # [U, B] weight of label 0 at this score

    @property
    def at(self) -> np.ndarray:
        """Weight [U, B] at this score."""
        return self.positive + self.negative

    @property
    def positives(self) -> np.ndarray:
        """Weight [B] of label 1 in all."""
        return self.positive.sum(axis=0)

    @property
    def negatives(self) -> np.ndarray:
        """Weight [B] of label 0 in all."""
        return self.negative.sum(axis=0)


def tally(score: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Tally:
    """Gather `y` [N] of 0 and 1 and `weights` [B, N] by `score` [N], finite; fastest with `weights.T` contiguous."""
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))  # [U] where each distinct score begins
    weight = weights.T[order].astype(np.float64)  # [N, B]
    positive = weight * (y[order] == 1)[:, None]  # [N, B]
    negative = weight - positive  # [N, B]
    if len(starts) < len(order):
        positive, negative = (np.add.reduceat(each, starts, axis=0) for each in (positive, negative))  # [U, B]
    return Tally(score=ordered[starts], positive=positive, negative=negative)


def summed_to(amount: np.ndarray, weight: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return [P, B], how much of `amount` [U, B] lies in the first rows, up to the weights `places` [P, B] of `weight`.

    `weight` is [U, B]. Where a place falls among rows of one score, they count in proportion: the mean over all
    orders of tied rows.
    """
    ends, sums = (np.vstack([np.zeros(amount.shape[1]), np.cumsum(each, axis=0)]) for each in (weight, amount))
    found = np.empty_like(places, dtype=np.float64)
    for draw in range(amount.shape[1]):
        found[:, draw] = np.interp(places[:, draw], ends[:, draw], sums[:, draw])
    return found
