"""Agreement of two labellings: counts, per cent, Cohen's kappa, with intervals from a bootstrap. No files.

Legend: N questions, U units of the bootstrap, B draws; [2, 2] counts of first label x second label, 0 = right first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from halp_probe.bootstrap import Draws, Estimate, image_draws, interval

DRAWS = Draws(count=2000, seed=0)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Counts of equal and of different labels, the share of equal ones and Cohen's kappa.

    `confusion` is [3][3] counts, the first labels down, the second across, each in the order right, wrong, unknown.
    `agreement` is the share of equal labels and `kappa` Cohen's, both of the `compared` questions that have a label
    on both sides. `problem` says why kappa is nan, or is "". `units` is the number of units that the bootstrap drew
    from.
    """

    confusion: tuple[tuple[int, int, int], ...]
    agreement: Estimate
    kappa: Estimate
    units: int
    problem: str

    @property
    def compared(self) -> int:
        """Number of questions that have a label on both sides."""
        return sum(sum(row[:2]) for row in self.confusion[:2])

    @property
    def agreeing(self) -> int:
        """Number of questions with the same label on both sides."""
        return self.confusion[0][0] + self.confusion[1][1]


def agreement(
    first: Sequence[int | None],
    second: Sequence[int | None],
    units: Sequence[str],
    draws: Draws = DRAWS,
    unit: str = "image",
) -> Agreement:
    """Compare two labellings of the same N questions; `units` [N] names what is drawn as one, and `unit` its kind.

    Cohen's kappa (Cohen 1960) as scikit-learn defines it. Each of B draws takes as many units as there are, with
    replacement, and all questions of each; a draw in which kappa is undefined is left out of its interval.
    """
    sides = np.array([[2 if label is None else label for label in labels] for labels in (first, second)], dtype=int)
    confusion = np.zeros((3, 3), dtype=int)
    np.add.at(confusion, (sides[0], sides[1]), 1)
    compared = confusion[:2, :2]
    known = (sides < 2).all(axis=0)  # [N]
    own = np.array(units, dtype=str)[known]
    drawn = _draws(sides[:, known], own, draws)  # [B, 2, 2]
    agreeing = _agreement(compared, drawn, len(np.unique(own)), unit)
    return Agreement(
        confusion=tuple((int(a), int(b), int(c)) for a, b, c in confusion),
        agreement=agreeing,
        kappa=_kappa(compared, drawn, agreeing, _rarer_units(sides[:, known], own), unit),
        units=len(np.unique(own)),
        problem=_problem(compared),
    )


def shares(counts: np.ndarray) -> np.ndarray:
    """Return [B], the share of equal labels in [B, 2, 2] counts; nan where there are no counts."""
    totals = counts.sum(axis=(1, 2))
    return _ratio(np.trace(counts, axis1=1, axis2=2), totals)


def kappas(counts: np.ndarray) -> np.ndarray:
    """Return [B], Cohen's kappa of [B, 2, 2] counts; nan where all agree on one class, as chance alone would."""
    totals = counts.sum(axis=(1, 2)).astype(np.float64)
    by_chance = (counts.sum(axis=1) * counts.sum(axis=2)).sum(axis=1)  # [B] in units of totals²
    agreeing = np.trace(counts, axis1=1, axis2=2)
    return _ratio(agreeing * totals - by_chance, totals**2 - by_chance)


def _draws(sides: np.ndarray, units: np.ndarray, draws: Draws) -> np.ndarray:
    """Return [B, 2, 2], the counts of each draw.

    `sides` [2, n] are the labels and `units` [n] the units of the compared questions.
    """
    if not len(units):
        return np.zeros((0, 2, 2), dtype=int)
    cells = np.eye(4, dtype=int)[2 * sides[0] + sides[1]]  # [n, 4]
    counts = [weights @ cells for weights in image_draws(units, draws)]
    return np.concatenate(counts).reshape(draws.count, 2, 2)


def _agreement(compared: np.ndarray, drawn: np.ndarray, n_units: int, unit: str) -> Estimate:
    value = float(shares(compared[None])[0])
    if n_units == 1:
        return Estimate(value=value, low=np.nan, high=np.nan, note=f"no interval: there is only one {unit}")
    return interval(value, shares(drawn), n_units, bounded=True, unit=unit)


def _kappa(compared: np.ndarray, drawn: np.ndarray, agreeing: Estimate, rarer: int, unit: str) -> Estimate:
    """Estimate kappa on the logit scale of (1 + kappa) / 2, which lies in 0 … 1, from the `rarer` units.

    Where all agree, no draw can differ. The interval then comes from what they could still disagree on, at the same
    agreement by chance.
    """
    value = float(kappas(compared[None])[0])
    if value == 1:
        total = compared.sum()
        by_chance = float((compared.sum(axis=0) * compared.sum(axis=1)).sum()) / total**2
        return Estimate(value=1.0, low=1 - (1 - agreeing.low) / (1 - by_chance), high=1.0, note=agreeing.note)
    found = interval((1 + value) / 2, (1 + kappas(drawn)) / 2, rarer, bounded=True, unit=unit)
    return Estimate(value=value, low=2 * found.low - 1, high=2 * found.high - 1, note=found.note)


def _rarer_units(sides: np.ndarray, units: np.ndarray) -> int:
    """Count the units that have the label that fewer units have, on either side; `sides` [2, n], `units` [n]."""
    return min(len(np.unique(units[(sides == label).any(axis=0)])) for label in (0, 1))


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
