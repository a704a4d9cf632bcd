"""Map of the layers: what may be said of all representations at once.

With many layers one of them seems better than chance, or than its neighbour, by chance alone.

Legend: L representations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from halp_probe.bootstrap import Estimate
from halp_probe.probes.judging.metrics import MeasuredScore
from halp_probe.probes.judging.simultaneous import (
    widened,
    widened_difference,
    widening,
    widening_of_differences,
)
from halp_probe.probes.results import Judgement

CHANCE = 0.5  # AUROC


@dataclass(frozen=True, kw_only=True)
class LayerMap:
    """AUROC of every representation with intervals that hold all at once, in 95 of 100 data sets.

    Attributes
    ----------
    estimates
        By representation.
    widening
        How much wider they are than intervals of one representation alone.
    widening_of_differences
        The same of the differences of all pairs.
    """

    estimates: Mapping[str, Estimate]  # L
    widening: float
    widening_of_differences: float
    judged: Mapping[str, MeasuredScore] = field(repr=False)

    @property
    def best(self) -> str:
        """Representation with the highest AUROC on the rows that judge it."""
        return max(self.estimates, key=lambda name: np.nan_to_num(self.estimates[name].value, nan=-1.0))

    @property
    def above_chance(self) -> tuple[str, ...]:
        """Representations that are shown to be above .5, all judged at once."""
        return tuple(name for name, each in self.estimates.items() if each.low > CHANCE)

    @property
    def rivals(self) -> tuple[str, ...]:
        """Representations than which the best is not shown to be better, all pairs judged at once."""
        best = self.best
        others = (name for name, each in self.estimates.items() if name != best and np.isfinite(each.value))
        return tuple(name for name in others if not self.difference(best, name).low > 0)

    def difference(self, one: str, other: str) -> Estimate:
        """Return the paired difference of two AUROCs; its interval holds together with those of all other pairs."""
        return widened_difference(self.judged[one], self.judged[other], self.widening_of_differences)


def layer_map(judgement: Judgement) -> LayerMap:
    """Judge all representations at once."""
    names = [result.name for result in judgement.of_kind("representation")]
    judged = {name: judgement.judged["auroc"][name] for name in names}
    known = [each for each in judged.values() if np.isfinite(each.value)]
    factor = widening(known)
    return LayerMap(
        estimates={name: widened(each, factor) for name, each in judged.items()},
        widening=factor,
        widening_of_differences=widening_of_differences(known),
        judged=judged,
    )
