"""Design of a study: how probes are trained and judged."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from halp_probe.bootstrap import Draws
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.features import LabelledRows
from halp_probe.probes.fitting.estimators import STRENGTHS
from halp_probe.probes.fitting.kinds import Fitter, fitter, mlp
from halp_probe.probes.fitting.splits import Folds, fixed_folds, folds_of, study_folds
from halp_probe.probes.names import FUSIONS, LINEAR, NONE
from halp_probe.probes.presets import HALP, row_split


@dataclass(frozen=True, kw_only=True)
class Design:
    """Design of a study: how probes are trained and judged.

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
        Outer test folds, at least 3; not with `fold_column`.
    fold_column
        Column of the table that says which fold tests each row, such as `fold` of a benchmark; None: by image.
    group_by
        Column whose equal values stay on one side of the split too, as rows of one image do: a template, a day.
    join_near_duplicates
        Whether pictures that are nearly the same, such as one in two encodings, count as one image.
    fusion
        Ways to fuse the probes of all representations: `stack`, `mean`, `concat`, `difference`; each also together with
        the model's own confidence.
    stability
        Whether to ask too how the leading representation's number depends on the number of images, on the folds, and on
        which groups were seen; it costs as much as ten to twenty more representations.
    bootstrap
        Draws of images for each interval.
    calibration
        `platt`, `isotonic` or `none`.
    preset
        `halp` for its published design, whatever `probe` and `folds` say.
    seed
        Seed of folds, probes and bootstrap.
    class_weight
        None, or `balanced` for both labels to weigh alike in training, whatever their numbers; of linear. Risks are
        calibrated to the true rate all the same, so not with `calibration` none.
    device
        Where an MLP is trained, such as `cuda`.

    Examples
    --------
    >>> import halp_probe
    >>> halp_probe.Design(probe="ridge", group_columns=("kind",)).folds
    5
    """

    probe: str = LINEAR
    strengths: tuple[float, ...] = STRENGTHS
    representations: tuple[str, ...] | None = None
    group_columns: tuple[str, ...] = ()
    folds: int = 5
    fold_column: str | None = None
    group_by: str | None = None
    join_near_duplicates: bool = False
    fusion: tuple[str, ...] = FUSIONS
    stability: bool = False
    bootstrap: int = 1000
    calibration: str = "platt"
    preset: str | None = None
    class_weight: str | None = None
    seed: int = 0
    device: str = "cpu"

    @property
    def draws(self) -> Draws:
        """Draws of the bootstrap that all intervals come from."""
        return Draws(count=self.bootstrap, seed=self.seed)


def folds_for(rows: LabelledRows, design: Design) -> Folds:
    """Return the test folds. Raises ProbeError where the rows have too few images or labels for them."""
    if design.preset is not None and rows.fixed is not None:
        raise ProbeError(f"`fold_column` does not go with `preset` {design.preset}, which has its own split")
    if design.preset == "halp":
        return folds_of(row_split(rows.y, HALP.test_share, HALP.seed, HALP.stratified), rows.y)
    if rows.fixed is not None:
        return fixed_folds(rows.fixed.folds, rows.y, rows.image_codes, rows.fixed.column)
    return study_folds(rows.y, rows.image_codes, design.folds, design.seed)


def fitter_for(images: np.ndarray, design: Design) -> Fitter:
    """Return what fits probes on rows of these images. Raises ProbeError for options that do not go together."""
    if design.class_weight is not None and (design.preset is not None or design.calibration == NONE):
        other = f"`preset` {design.preset}" if design.preset else "`calibration` none: it shifts all risks"
        raise ProbeError(f"`class_weight` does not go with {other}; leave one of them out")
    if design.preset == "halp":
        return mlp(replace(HALP.mlp, random_state=design.seed), None, design.device)
    return fitter(
        design.probe,
        design.strengths,
        groups=images,
        seed=design.seed,
        device=design.device,
        class_weight=design.class_weight,
    )
