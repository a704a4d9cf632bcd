"""Files of a study's probes: one for each representation, and the one to use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from halp_probe.probes.card import fused_card, vectors_card
from halp_probe.probes.files import SELECTED_STEM, file_stem, remove_other_probes, save_probe
from halp_probe.probes.fusion.fused import FusedProbe
from halp_probe.probes.judging.calibration import Calibration
from halp_probe.probes.judging.thresholds import threshold_for
from halp_probe.probes.results import Result
from halp_probe.probes.study import Study
from halp_probe.version import __version__


def save_probes(
    folder: Path, study: Study, attributes: Mapping[str, Any], labels_file: str, max_error: float | None
) -> None:
    """Write a pair of files for each representation and each fused probe, fitted on all rows.

    Pairs of an earlier run are removed. `selected_probe` is the representation that is best over all folds; its card
    has the AUROC of the nested choice, which is what such a choice is worth. `attributes` are those of the shards.
    """
    fits = study.sweep.fits | study.sweep.fused
    stems = {file_stem(name): name for name in fits}
    if study.sweep.selected:
        stems[SELECTED_STEM] = study.sweep.best_over_all
    for stem, name in stems.items():
        fit = fits[name]
        known = np.isfinite(fit.final_score)
        score, y = fit.final_score[known], study.rows.y[known]
        calibration = Calibration.fit(study.design.calibration, score, y)
        images, draws = study.rows.image_codes[known], study.design.draws
        threshold = None if max_error is None else threshold_for(calibration(score), y, images, max_error, draws)
        result = study.judgement.headline if stem == SELECTED_STEM else study.judgement.result(name)
        fused = isinstance(fit.final, FusedProbe)
        reads = fused_card(name, fit.final.inputs, attributes) if fused else vectors_card(name, attributes)
        about = {**reads, "training": _provenance(study, result, labels_file)}
        save_probe(folder / stem, fit.final, about, calibration, threshold, study.rows.images)
    remove_other_probes(folder, list(stems))


def _provenance(study: Study, result: Result, labels_file: str) -> dict[str, Any]:
    rows, design = study.rows, study.design
    return {
        "rows": len(rows.y),
        "positives": int(rows.y.sum()),
        "images": len(set(rows.images)),
        "left_out": len(rows.left_out),
        "labels_file": labels_file,
        "seed": design.seed,
        "folds": study.folds.count,
        "fold_column": design.fold_column,
        "split": None if rows.fixed is None else rows.fixed.split,
        "split_questions": None if rows.fixed is None else rows.fixed.questions,
        "datasets": list(rows.datasets),
        "preset": design.preset,
        "class_weight": design.class_weight,
        "halp_probe_version": __version__,
        "auroc": result.auroc.value,  # of the out-of-fold scores, not of this refitted probe
        "auroc_low": result.auroc.low,
        "auroc_high": result.auroc.high,
    }
