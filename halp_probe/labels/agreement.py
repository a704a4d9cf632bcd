"""How far two labellings agree: counts, per cent, Cohen's kappa, with intervals from a bootstrap. No files.

Legend: N questions, U units of the bootstrap, B draws; [2, 2] counts of first label x second label, 0 = right first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_TAIL = 2.5  # percent on either side of the interval


@dataclass(frozen=True)
class Share:
    """A value with the ends of its 95 % interval; nan where it cannot be known."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """`confusion`: [3][3] counts, the first labels down, the second across, each in the order right, wrong, unknown.

    `agreement` is the share of equal labels and `kappa` Cohen's, both of the `compared` questions that have a label on
    both sides. `problem` says why kappa is nan, or is "". `units`: how many units the bootstrap drew from.
    """

    confusion: tuple[tuple[int, int, int], ...]
    agreement: Share
    kappa: Share
    units: int
    problem: str

    @property
    def compared(self) -> int:
        return sum(sum(row[:2]) for row in self.confusion[:2])

    @property
    def agreeing(self) -> int:
        return self.confusion[0][0] + self.confusion[1][1]


def agreement(
    first: Sequence[int | None], second: Sequence[int | None], units: Sequence[str], draws: int = 2000, seed: int = 0
) -> Agreement:
    """Compare two labellings of the same N questions; `units` [N] names what is drawn as one, such as the image.

    Cohen's kappa (Cohen 1960) as scikit-learn defines it. Each of B draws takes as many units as there are, with
    replacement, and all questions of each; a draw in which kappa is undefined is left out of its interval.
    """
    sides = np.array([[2 if label is None else label for label in labels] for labels in (first, second)], dtype=int)
    confusion = np.zeros((3, 3), dtype=int)
    np.add.at(confusion, (sides[0], sides[1]), 1)
    compared = confusion[:2, :2]
    known = (sides < 2).all(axis=0)  # [N]
    names, codes = np.unique(np.array(units, dtype=str)[known], return_inverse=True)
    drawn = _draws(sides[:, known], codes, len(names), draws, seed)  # [B, 2, 2]
    return Agreement(
        confusion=tuple((int(a), int(b), int(c)) for a, b, c in confusion),
        agreement=_share(shares(compared[None]), shares(drawn)),
        kappa=_share(kappas(compared[None]), kappas(drawn)),
        units=len(names),
        problem=_problem(compared),
    )


def shares(counts: np.ndarray) -> np.ndarray:
    """[B] share of equal labels in [B, 2, 2] counts; nan where there is none."""
    totals = counts.sum(axis=(1, 2))
    return _ratio(np.trace(counts, axis1=1, axis2=2), totals)


def kappas(counts: np.ndarray) -> np.ndarray:
    """[B] Cohen's kappa of [B, 2, 2] counts; nan where all agree on one class, as chance alone would."""
    totals = counts.sum(axis=(1, 2)).astype(np.float64)
    by_chance = (counts.sum(axis=1) * counts.sum(axis=2)).sum(axis=1)  # [B] in units of totals²
    agreeing = np.trace(counts, axis1=1, axis2=2)
    return _ratio(agreeing * totals - by_chance, totals**2 - by_chance)


def _draws(sides: np.ndarray, codes: np.ndarray, n_units: int, draws: int, seed: int) -> np.ndarray:
    """[B, 2, 2] counts of each draw; `sides` [2, n] labels and `codes` [n] units of the compared questions."""
    if not n_units:
        return np.zeros((0, 2, 2), dtype=int)
    each = np.zeros((n_units, 4), dtype=int)
    np.add.at(each, (codes, 2 * sides[0] + sides[1]), 1)
    rng = np.random.default_rng(seed)
    counts = [np.bincount(rng.integers(n_units, size=n_units), minlength=n_units) @ each for _ in range(draws)]
    return np.stack(counts).reshape(draws, 2, 2)


def _problem(compared: np.ndarray) -> str:
    total = int(compared.sum())
    if not total:
        return "no question has a label on both sides"
    for label, name in enumerate(("right", "hallucinated")):
        if compared[label, label] == total:
            return f"both sides call all of them {name}, which chance alone would explain"
    return ""


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.full(len(bottom), np.nan), where=bottom > 0)


def _share(value: np.ndarray, drawn: np.ndarray) -> Share:
    known = drawn[np.isfinite(drawn)]
    if not len(known) or not np.isfinite(value[0]):
        return Share(float(value[0]), float("nan"), float("nan"))
    low, high = np.percentile(known, (_TAIL, 100 - _TAIL))
    return Share(float(value[0]), float(low), float(high))
