"""Study of shards and labels: all that is known of the probes in one call, for the command line and for notebooks.

Legend: N rows, K folds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from halp_probe.probes.design import Design, fitter_for, folds_for
from halp_probe.probes.features import LabelledRows, ShardSource, choose_representations, join
from halp_probe.probes.findings import findings
from halp_probe.probes.fitting.splits import Folds
from halp_probe.probes.given_labels import GivenLabels, labels_by_id
from halp_probe.probes.judging.groups import GroupResults, by_group
from halp_probe.probes.label_noise import LabelErrors, LabelNoise, label_noise
from halp_probe.probes.layer_map import LayerMap, layer_map
from halp_probe.probes.left_out import contrasts
from halp_probe.probes.nested_preset import NestedNumber, nested_number
from halp_probe.probes.own_baselines import OwnBaselines, own_baselines, recorded_rivals
from halp_probe.probes.own_features import ExtendedShards, Feature
from halp_probe.probes.remarks import Finding
from halp_probe.probes.results import Judgement, Result, judge_sweep
from halp_probe.probes.shortcuts import shortcuts
from halp_probe.probes.stability import Probed, Stability, stability
from halp_probe.probes.summary import short_text
from halp_probe.probes.sweep import Sweep, sweep
from halp_probe.probes.transfer import MOST_GROUPS, Transfer, transfer
from halp_probe.probes.unknown_rows import unknown_rows
from halp_probe.progress import ProgressChoice, display
from halp_probe.shards.reader import Shards

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, repr=False)
class Study:
    """Results of a study, and all that they come from.

    Attributes
    ----------
    design
        How probes were trained and judged.
    rows
        The N rows that count, and why others were left out.
    judgement
        AUROC with intervals of the selected probe, each representation, baseline and control; differences.
    groups
        The headline probe within each group column; transfers: from group to group.
    layers
        The representations judged all at once: which are shown to be above .5, and than which the best is better.
    nested
        Beside a preset: what its probes reach when they are chosen and judged by folds that keep images apart.
    stability
        How the leading representation's number depends on images, folds and groups, where the design asks for it.
    noise
        Bounds of AUROC over the rows whose label is unknown, and its correction for wrong labels.
    findings
        What a reader must know, in words.
    seconds
        How long it took.

    Examples
    --------
    >>> import halp_probe
    >>> shards, labels = halp_probe.open_shards("output"), halp_probe.read_labels("labels.csv")
    >>> found = halp_probe.study(shards, labels, halp_probe.Design(bootstrap=50))
    >>> bool(found.frame().loc["selected_probe", "auroc"] == found.judgement.headline.auroc.value)
    True
    """

    design: Design
    rows: LabelledRows
    folds: Folds
    sweep: Sweep
    judgement: Judgement
    groups: Mapping[str, GroupResults]  # by group column; of the headline probe
    transfers: tuple[Transfer, ...]  # one for each group column with few enough groups
    layers: LayerMap
    nested: NestedNumber | None  # of a preset
    stability: Stability | None  # where the design asks for it
    noise: LabelNoise
    findings: tuple[Finding, ...]
    shards: ShardSource
    seconds: float = 0.0

    def __repr__(self) -> str:
        return short_text(self.judgement, self.findings)

    @property
    def risk(self) -> np.ndarray:
        """Out-of-fold risk [N] of the headline probe.

        It is calibrated to one scale over all folds where the probe is selected.
        """
        return self.sweep.selected.risk if self.sweep.selected else self.judgement.scores[self.judgement.headline.name]

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame of the results, by name.

        Columns: kind, layer, AUROC with its 95 % interval, and the further measures.
        """
        import pandas as pd

        def row(result: Result) -> dict[str, Any]:
            estimates = {"auroc": result.auroc, **result.measures}
            about = {"name": result.name, "kind": result.kind, "position": result.position, "layer": result.layer}
            numbers = {
                f"{name}{suffix}": getattr(estimate, part)
                for name, estimate in estimates.items()
                for suffix, part in (("", "value"), ("_low", "low"), ("_high", "high"))
            }
            return {**about, "selected_in": result.selected_in, **numbers, "note": result.note}

        frame = pd.DataFrame([row(result) for result in self.judgement.results]).set_index("name")
        return frame.astype({"layer": "Int64", "selected_in": "Int64"})


def study(
    shards: ShardSource,
    labels: GivenLabels,
    design: Design = Design(),
    *,
    features: Mapping[str, Feature] | None = None,
    baselines: OwnBaselines | None = None,
    label_errors: LabelErrors | None = None,
    progress: ProgressChoice = None,
) -> Study:
    """Train and judge a probe on every representation, by nested folds split by image, beside baselines and controls.

    Parameters
    ----------
    shards
        Opened shards.
    labels
        Question id -> 1 (hallucinated), 0 (right) or None (unknown), as `label` and `read_labels` give them; or a
        pandas Series with question ids as its index, in which nan is unknown.
    design
        Kind of probe, folds, group columns, calibration, seed.
    features
        Further representations of your own by name: an array [M, F] with a row for each of the M questions in
        the shards' order, or a function of the shards that makes one; judged on the same folds.
    baselines
        Numbers of your own that the probe must beat: a CSV file with `question_id` and a column each, or by name [M] in
        the shards' order. Whether high or low is riskier is learnt on the training folds.
    label_errors
        Shares of wrong labels from a check by hand, to correct the headline's AUROC for them.
    progress
        As in `extract`.

    Raises
    ------
    ProbeError
        When no honest probe can be made: other ids, damaged vectors, too few rows or images, one class only; and for
        a feature of another shape.

    Examples
    --------
    >>> import halp_probe
    >>> shards, labels = halp_probe.open_shards("output"), halp_probe.read_labels("labels.csv")
    >>> middle, first = (shards.vectors(f"query_token_representation/layer_{k}") for k in (3, 0))
    >>> found = halp_probe.study(
    ...     shards, labels, halp_probe.Design(bootstrap=50), features={"middle - first": middle - first}
    ... )
    >>> found.judgement.result("middle - first").auroc.value > 0.5
    True
    >>> [added.verdict for added in found.judgement.added][0] in ("adds", "adds nothing that shows", "takes away")
    True
    """
    began = time.monotonic()
    labels = labels_by_id(labels)
    recorded = recorded_rivals(shards) if isinstance(shards, Shards) else {}
    if features:
        shards = ExtendedShards(shards, features)
    chosen = None if design.representations is None else (*design.representations, *(features or ()))
    wanted = choose_representations(shards.representations, chosen)
    rows = join(
        shards,
        labels,
        wanted,
        design.group_columns,
        design.fold_column,
        join_near_duplicates=design.join_near_duplicates,
        group_by=design.group_by,
    )
    own = own_baselines(baselines or {}, shards.question_ids)
    rivals = {name: values for name, values in recorded.items() if name not in own}
    rows = replace(
        rows,
        rivals={name: values[rows.index] for name, values in rivals.items()},
        own_baselines={name: values[rows.index] for name, values in own.items()},
    )
    folds, fit = folds_for(rows, design), fitter_for(rows.image_codes, design)
    unknown = unknown_rows(shards, rows, folds)
    with display(progress) as report:
        sweep_result = sweep(
            shards,
            rows,
            folds,
            fit,
            calibration=design.calibration,
            seed=design.seed,
            unknown=unknown,
            fusion=design.fusion,
            progress=report,
        )
    judgement = judge_sweep(sweep_result, rows, folds, design.draws)
    noise = label_noise(judgement, sweep_result, rows, folds, unknown, design.draws, label_errors)
    score = judgement.scores[judgement.headline.name][folds.tested]
    groups = {
        column: by_group(
            score,
            rows.take_tested(folds),
            np.asarray(values)[folds.tested].tolist(),
            design.draws,
            spread=judgement.headline.spread,
        )
        for column, values in rows.groups.items()
    }
    tried = rows.representations if sweep_result.selected else (sweep_result.leading,)  # else nothing to choose by
    transfers = tuple(
        transfer(
            {name: partial(rows.vectors, shards, name) for name in tried},
            lambda images: fitter_for(images, design),
            column,
            values,
            rows.y,
            folds,
            rows.image_codes,
            design.draws,
        )
        for column, values in rows.groups.items()
        if 2 <= len(set(values)) <= MOST_GROUPS
    )
    nested = None
    if design.preset is not None:
        vectors = {name: partial(rows.vectors, shards, name) for name in rows.representations}
        nested = nested_number(vectors, fit, rows.y, rows.image_codes, seed=design.seed, draws=design.draws)
    steady = None
    if design.stability and sweep_result.selected:
        probed = Probed(
            representation=sweep_result.leading,
            X=rows.vectors(shards, sweep_result.leading),
            y=rows.y,
            images=rows.image_codes,
            folds=folds,
            fit=fit,
            whole=sweep_result.fits[sweep_result.leading],
            draws=design.draws,
            seed=design.seed,
        )
        steady = stability(probed, rows.groups, fixed=rows.fixed is not None)
    layers = layer_map(judgement)
    found = findings(
        judgement,
        sweep_result,
        rows,
        folds,
        groups,
        transfers,
        design.preset,
        noise,
        contrasts=contrasts(shards, rows, labels, design.draws),
        layers=layers,
        nested=nested,
        calibration=design.calibration,
        shortcuts=shortcuts(shards, rows, folds, design.draws),
    )
    return Study(
        design=design,
        rows=rows,
        folds=folds,
        sweep=sweep_result,
        judgement=judgement,
        groups=groups,
        transfers=transfers,
        layers=layers,
        nested=nested,
        stability=steady,
        noise=noise,
        findings=tuple(found),
        shards=shards,
        seconds=time.monotonic() - began,
    )
