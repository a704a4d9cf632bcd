"""The honest number beside a published one: the same kind of probe, chosen and judged by folds that keep images apart.

Legend: N rows, D width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from halp_probe.bootstrap import Draws, Estimate
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.fitting.kinds import Fitter
from halp_probe.probes.fitting.splits import study_folds
from halp_probe.probes.judging.metrics import judge
from halp_probe.probes.judging.rows import Rows
from halp_probe.probes.nested import cross_fit, select, spread
from halp_probe.probes.training_sets import training_sets

FOLDS = 3  # the fewest that leave inner folds: each further one costs as many fits again


@dataclass(frozen=True, kw_only=True)
class NestedNumber:
    """AUROC of a preset's probe with its representation chosen inside the training folds, split by image."""

    auroc: Estimate  # its note says why there is none
    chosen: Counter[str]  # representation -> folds
    folds: int = FOLDS


def nested_number(
    vectors: Mapping[str, Callable[[], np.ndarray]],
    fit: Fitter,
    y: np.ndarray,
    images: np.ndarray,
    *,
    seed: int,
    draws: Draws,
) -> NestedNumber:
    """Fit every representation on image folds, choose one inside each fold's training rows, and judge the choice.

    `vectors`: representation -> a function that reads it [N, D]; `y` [N] of 0 and 1, `images` [N] int.
    """
    try:
        folds = study_folds(y, images, FOLDS, seed)
    except ProbeError as error:
        return NestedNumber(auroc=Estimate(value=np.nan, low=np.nan, high=np.nan, note=str(error)), chosen=Counter())
    sets = training_sets(y, folds)
    fits = {name: cross_fit(fit(read(), y, sets.train), y, folds, sets) for name, read in vectors.items()}
    selected = select(fits, y, folds, calibration="none")
    if selected is None:
        nothing = Estimate(value=np.nan, low=np.nan, high=np.nan, note="no inner fold has both labels")
        return NestedNumber(auroc=nothing, chosen=Counter())
    rows = Rows(y=y, fold=folds.fold, images=images)
    judged = judge({"": selected.score}, rows, draws, {"": spread(selected.models, y)})[""].estimate
    return NestedNumber(auroc=judged, chosen=selected.counts)
