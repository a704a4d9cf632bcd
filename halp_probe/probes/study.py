"""From shards and labels to everything that is known of the probes: one call, for the command line and for notebooks.

Legend: N rows, K folds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from halp_probe.probes.errors import ProbeError
from halp_probe.probes.estimators import STRENGTHS
from halp_probe.probes.features import LabelledRows, ShardSource, choose_representations, join
from halp_probe.probes.findings import Finding, findings
from halp_probe.probes.groups import Grouped, by_group
from halp_probe.probes.kinds import Fitter, fitter, mlp
from halp_probe.probes.presets import HALP, row_split
from halp_probe.probes.results import Judgement, judge_sweep
from halp_probe.probes.splits import Folds, folds_of, outer_folds
from halp_probe.probes.sweep import Sweep, sweep
from halp_probe.probes.transfer import MOST_GROUPS, Transfer, TransferTask, transfer


@dataclass(frozen=True)
class Design:
    """How probes are trained and judged.

    Attributes
    ----------
    probe
        `linear`, `ridge`, `difference` or `mlp`.
    strengths
        Candidates of the penalty's inverse strength C, of linear and ridge.
    representations
        The ones to probe; None for all.
    group_columns
        Columns of the table: lookups as baselines, tables by group, transfer from group to group.
    folds
        Outer test folds, at least 3.
    bootstrap
        Draws of images for each interval.
    calibration
        `platt`, `isotonic` or `none`.
    preset
        `halp` for its published design, whatever `probe` and `folds` say.
    seed
        Seed of folds, probes and bootstrap.
    device
        Where an MLP is trained, such as `cuda`.

    Examples
    --------
    >>> import halp_probe
    >>> halp_probe.Design(probe="ridge", group_columns=("kind",)).folds
    5
    """

    probe: str = "linear"
    strengths: tuple[float, ...] = STRENGTHS
    representations: tuple[str, ...] | None = None
    group_columns: tuple[str, ...] = ()
    folds: int = 5
    bootstrap: int = 1000
    calibration: str = "platt"
    preset: str | None = None
    seed: int = 0
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
    """Train probes on every representation, and judge them by nested folds of images, beside baselines and controls.

    Parameters
    ----------
    shards
        What `open_shards` gave.
    labels
        From question id to 1 (hallucinated), 0 (right) or None (unknown: the question is left out).
    design
        How probes are trained and judged.

    Returns
    -------
    Study
        `.judgement.headline` is the result to quote; its `auroc` has `value`, `low` and `high`, the 95 % interval.

    Raises
    ------
    ProbeError
        An `InputError`, when no honest probe can be made: other ids, damaged vectors, too few rows or images, one class
        only.

    Examples
    --------
    >>> import halp_probe
    >>> shards, labels = halp_probe.open_shards("output"), halp_probe.read_labels("labels.csv")
    >>> layers = ("query_token_representation/layer_3", "query_token_representation/layer_5")
    >>> design = halp_probe.Design(representations=layers, folds=3, bootstrap=200)
    >>> found = halp_probe.study(shards, labels, design)
    >>> auroc = found.judgement.headline.auroc
    >>> 0.5 < auroc.low < auroc.value < auroc.high <= 1
    True
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
            f"{design.folds} folds leave no inner folds to choose layer and penalty by; pass --folds 3 or more"
        )
    folds = outer_folds(rows.y, rows.image_codes, design.folds, design.seed)
    judged = folds.count - len(folds.unjudged)
    if judged < 2:
        raise ProbeError(
            f"only {judged} of {folds.count} test folds hold both classes ({int(rows.y.sum())} of {len(rows.y)} labels "
            "are 1): too few to judge a probe; label more samples, or pass fewer --folds"
        )
    return folds


def _fitter(rows: LabelledRows, design: Design) -> Fitter:
    if design.preset == "halp":
        return mlp(replace(HALP.mlp, random_state=design.seed), None, design.device)
    return fitter(design.probe, design.strengths, groups=rows.image_codes, seed=design.seed, device=design.device)
