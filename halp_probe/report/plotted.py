"""The points of the report's curves: of the headline probe and of its best baseline.

Legend: T tested rows with a score.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from halp_probe.probes.curves import precision_recall, reliability, risk_coverage, roc
from halp_probe.probes.study import Study


def plotted(found: Study) -> dict[str, Any]:
    """ROC, precision-recall, risk-coverage and calibration, over all folds together.

    The selected probe enters with its calibrated risk, so that its folds are on one scale; a baseline with its scores.
    """
    judgement, selected = found.judgement, found.sweep.selected
    lines = {judgement.headline.title: found.risk}
    if judgement.best_baseline:
        lines[judgement.best_baseline.title] = judgement.scores[judgement.best_baseline.name]
    drawn: dict[str, Any] = {"roc": [], "pr": [], "risk_coverage": [], "calibration": None}
    for title, score in lines.items():
        known = np.flatnonzero(found.folds.tested & np.isfinite(score))  # [T]
        y, score, images = found.rows.y[known], score[known], found.rows.image_codes[known]
        if len(np.unique(y)) < 2:
            continue
        how = (images, found.design.bootstrap, found.design.seed)
        rates, precisions, errors = roc(y, score), precision_recall(y, score), risk_coverage(y, score, *how)
        drawn["roc"].append(_line(title, rates.fpr, rates.tpr))
        drawn["pr"].append(_line(title, precisions.recall, precisions.precision))
        band = {"low": _numbers(errors.low), "high": _numbers(errors.high)}
        drawn["risk_coverage"].append({**_line(title, errors.coverage, errors.error), **band})
        if selected and drawn["calibration"] is None:  # the first line is the selected probe's
            bins = reliability(y, score, *how)
            drawn["calibration"] = {
                "risk": _numbers(bins.risk),
                "rate": _numbers(bins.observed),
                "low": _numbers(bins.low),
                "high": _numbers(bins.high),
                "count": [round(float(count)) for count in bins.count],
            }
    return drawn


def _line(title: str, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    return {"title": title, "x": _numbers(x), "y": _numbers(y)}


def _numbers(values: np.ndarray) -> list[float | None]:
    """Five digits are more than can be drawn; None for nan."""
    return [round(float(value), 5) if np.isfinite(value) else None for value in values]
