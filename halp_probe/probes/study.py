"""From shards and labels to everything that is known of the probes: one call, for the command line and for notebooks.

Legend: N rows, K folds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from halp_probe.probes.errors import ProbeError
from halp_probe.probes.features import LabelledRows, ShardSource, choose_representations, join
from halp_probe.probes.findings import Finding, findings
from halp_probe.probes.fitting.estimators import STRENGTHS
from halp_probe.probes.fitting.kinds import Fitter, fitter, mlp
from halp_probe.probes.fitting.splits import Folds, folds_of, outer_folds
from halp_probe.probes.judging.groups import Grouped, by_group
from halp_probe.probes.names import LINEAR
from halp_probe.probes.presets import HALP, row_split
from halp_probe.probes.results import Judgement, judge_sweep
from halp_probe.probes.sweep import Sweep, sweep
from halp_probe.probes.transfer import MOST_GROUPS, Transfer, TransferTask, transfer


@dataclass(frozen=True)
class Design:
    """How probes are trained and judged."""

    probe: str = LINEAR  # one of names.KINDS
    strengths: tuple[float, ...] = STRENGTHS  # candidates of the penalty's inverse strength C, of linear and ridge
    representations: tuple[str, ...] | None = None  # all when None
    group_columns: tuple[str, ...] = ()  # columns of the table: lookups as baselines, tables by group, transfer
    folds: int = 5
    bootstrap: int = 1000  # draws
    calibration: str = "platt"  # or isotonic, none
    preset: str | None = None  # "halp": its published design, whatever `probe` and `folds` say
    seed: int = 0  # of folds, probes and bootstrap
    device: str = "cpu"


@dataclass(frozen=True)
class Study:
    """What was found, and all that it was found from."""

    design: Design
    rows: LabelledRows
    folds: Folds
    sweep: Sweep
    judgement: Judgement
    groups: Mapping[str, Grouped]  # by group column; of the headline probe
    transfers: tuple[Transfer, ...]  # one for each group column with few enough groups
    findings: tuple[Finding, ...]

    @property
    def risk(self) -> np.ndarray:
        """[N] out-of-fold risk of the headline probe: calibrated to one scale over all folds where it is selected."""
        return self.sweep.selected.risk if self.sweep.selected else self.judgement.scores[self.judgement.headline.name]


def study(shards: ShardSource, labels: Mapping[str, int | None], design: Design = Design()) -> Study:
    """Probes on every representation, judged by nested folds split by image, beside baselines and controls.

    `labels`: question id -> 1 (hallucinated), 0 (right) or None. Raises ProbeError when no honest probe can be made:
    other ids, damaged vectors, too few rows or images, one class only.
    """
    wanted = choose_representations(shards.representations, design.representations)
    rows = join(shards, labels, wanted, design.group_columns)
    folds, fit = _folds(rows, design), _fitter(rows, design)
    swept = sweep(shards, rows, folds, fit, calibration=design.calibration, seed=design.seed)
    judgement = judge_sweep(swept, rows, folds, design.bootstrap, design.seed)
    tested = folds.tested
    score = judgement.scores[judgement.headline.name]
    groups = {
        column: by_group(
            rows.y[tested],
            score[tested],
            folds.fold[tested],
            np.asarray(values)[tested].tolist(),
            rows.image_codes[tested],
            design.bootstrap,
            design.seed,
            spread=judgement.headline.spread,
        )
        for column, values in rows.groups.items()
    }
    task = TransferTask(swept.leading, rows.vectors(shards, swept.leading), fit, swept.fits[swept.leading])
    transfers = tuple(
        transfer(task, column, values, rows.y, folds, rows.image_codes, design.bootstrap, design.seed)
        for column, values in rows.groups.items()
        if 2 <= len(set(values)) <= MOST_GROUPS
    )
    found = tuple(findings(judgement, swept, rows, folds, groups, transfers, design.preset))
    return Study(design, rows, folds, swept, judgement, groups, transfers, found)


def _folds(rows: LabelledRows, design: Design) -> Folds:
    if design.preset == "halp":
        return folds_of(row_split(rows.y, HALP.test_share, HALP.seed, HALP.stratified), rows.y)
    if design.folds < 3:
        raise ProbeError(
            f"{design.folds} folds leave no inner folds to choose layer and penalty by; pass `folds` 3 or more"
        )
    folds = outer_folds(rows.y, rows.image_codes, design.folds, design.seed)
    judged = folds.count - len(folds.unjudged)
    if judged < 2:
        raise ProbeError(
            f"only {judged} of {folds.count} test folds hold both classes ({int(rows.y.sum())} of {len(rows.y)} labels "
            "are 1): too few to judge a probe; label more samples, or pass fewer `folds`"
        )
    return folds


def _fitter(rows: LabelledRows, design: Design) -> Fitter:
    if design.preset == "halp":
        return mlp(replace(HALP.mlp, random_state=design.seed), None, design.device)
    return fitter(design.probe, design.strengths, groups=rows.image_codes, seed=design.seed, device=design.device)
