"""Sweep: every representation, baseline and control on the same outer folds; each test fold is scored once.

Legend: N rows, U rows whose label is unknown, D width, K folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from halp_probe.probes.added import SELECTED_BASELINE, AddedScores, added_scores
from halp_probe.probes.baselines import Baseline, baselines
from halp_probe.probes.controls import Control, controls
from halp_probe.probes.features import LabelledRows, ShardSource
from halp_probe.probes.fitting.kinds import Fitter
from halp_probe.probes.fitting.splits import Folds
from halp_probe.probes.fusion.fusing import Fusing, fuse
from halp_probe.probes.nested import CrossFit, SelectedProbe, cross_fit, select
from halp_probe.probes.training_sets import training_sets
from halp_probe.probes.unknown_rows import UnknownRows, score_unknown
from halp_probe.progress import Counter, Progress, silent


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Probes of all representations, the selected probe, baselines and controls."""

    fits: dict[str, CrossFit]  # by representation
    selected: SelectedProbe | None  # None where there are no inner folds to select by
    fused: dict[str, CrossFit]  # by name; their `final` are FusedProbes
    baselines: tuple[Baseline, ...]
    added: AddedScores | None  # None where there are no inner folds
    controls: tuple[Control, ...]
    unknown: dict[str, np.ndarray]  # representation -> [U] log-odds of the rows whose label is unknown

    @property
    def further(self) -> dict[str, CrossFit]:
        """Fused probes, stacks of baselines and the selected baseline, by name."""
        if self.added is None:
            return self.fused
        selected = {SELECTED_BASELINE: self.added.selected} if self.added.selected else {}
        return {**self.fused, **selected, **self.added.stacks}

    @property
    def leading(self) -> str:
        """Representation that the most folds chose; without inner folds, the best on the rows that judge it."""
        return self.selected.most_chosen if self.selected else self.best_over_all

    @property
    def best_over_all(self) -> str:
        """Representation with the highest mean AUROC over all folds: the one to use, not one to quote."""
        return max(self.fits, key=lambda name: np.nan_to_num(self.fits[name].final_auroc, nan=-1.0))


def sweep(
    shards: ShardSource,
    rows: LabelledRows,
    folds: Folds,
    fit: Fitter,
    *,
    calibration: str,
    seed: int,
    unknown: UnknownRows,
    fusion: Sequence[str] = (),
    progress: Progress = silent,
) -> Sweep:
    """Fit all representations, one in memory at a time; then what they are compared with."""
    sets = training_sets(rows.y, folds)
    fits, unknown_scores = {}, {}
    counter = Counter(progress, len(rows.representations) + len(fusion), unit="probe")
    for name in rows.representations:
        vectors = shards.vectors(name)
        fitted = fit(vectors[rows.index], rows.y, sets.train)
        fits[name] = cross_fit(fitted, rows.y, folds, sets)
        unknown_scores[name] = score_unknown(fitted, fits[name], sets, vectors[unknown.index], unknown.fold)
        del vectors, fitted  # one representation is in memory at a time
        counter.advance(1, note=name)
    selected = select(fits, rows.y, folds, calibration)
    fused = {}
    if selected is not None:
        fusing = Fusing(shards=shards, rows=rows, folds=folds, sets=sets, fit=fit, fits=fits)
        fused = fuse(fusing, fusion, lambda way: counter.advance(1, note=way))
    compared = tuple(baselines(rows, folds, sets, fits))
    found = Sweep(
        fits=fits,
        selected=selected,
        fused=fused,
        baselines=compared,
        added=None if selected is None else added_scores(compared, fits, rows.y, folds),
        controls=(),
        unknown=unknown_scores,
    )
    fitted_controls = controls(fit, rows.vectors(shards, found.leading), rows.y, rows.image_codes, folds, seed)
    return replace(found, controls=tuple(fitted_controls))
