"""Points of the report's curves: of the headline probe and of its best baseline.

Legend: T tested rows with a score.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.stats import rankdata

from halp_probe.probes.judging.curves import precision_recall, reliability, risk_coverage, roc
from halp_probe.probes.judging.prevalence_shift import FACTORS, prevalence_shift
from halp_probe.probes.judging.rows import Rows
from halp_probe.probes.study import Study


def curve_points(study: Study) -> dict[str, Any]:
    """Return the curves of the headline probe and its best baseline.

    They are ROC, precision-recall and risk-coverage of both, and the calibration of the headline probe. Rows of all
    folds are drawn together by their rank within their own fold: scores of two folds' models need not lie on one
    scale. Only the calibration, which is about the risk itself, takes the risk as it is.
    """
    judgement = study.judgement
    drawn: dict[str, Any] = {"roc": [], "pr": [], "risk_coverage": [], "calibration": _calibration(study)}
    for result in filter(None, (judgement.headline, judgement.best_baseline)):
        score = judgement.scores[result.name]
        rows = _scored_rows(study, score)
        rank = ranks_within(rows.fold, score[_scored_numbers(study, score)])
        if len(np.unique(rows.y)) < 2:
            continue
        rates, precisions = roc(rank, rows.y), precision_recall(rank, rows.y)
        errors = risk_coverage(rank, rows, study.design.draws)
        drawn["roc"].append(_line(result.title, rates.fpr, rates.tpr))
        drawn["pr"].append(_line(result.title, precisions.recall, precisions.precision))
        band = {"low": _numbers(errors.low), "high": _numbers(errors.high)}
        drawn["risk_coverage"].append({**_line(result.title, errors.coverage, errors.error), **band})
    return drawn


def ranks_within(fold: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return [T] from 0 to 1: the share of the row's own fold that scores lower, ties counting half."""
    rank = np.empty(len(score))
    for k in np.unique(fold):
        inside = fold == k
        rank[inside] = (rankdata(score[inside]) - 0.5) / inside.sum()
    return rank


def _calibration(study: Study) -> dict[str, list[Any]] | None:
    """Return the calibration of the selected probe's risk; None without a selected probe."""
    if study.sweep.selected is None:
        return None
    risk = study.risk[_scored_numbers(study, study.risk)]
    bins = reliability(risk, _scored_rows(study, study.risk), study.design.draws)
    return {
        "risk": _numbers(bins.risk),
        "rate": _numbers(bins.observed),
        "low": _numbers(bins.low),
        "high": _numbers(bins.high),
        "count": [round(float(count)) for count in bins.count],
    }


def shifted_risks(study: Study) -> list[dict[str, Any]]:
    """Return how the selected probe's risks would do were label 1 rarer or commoner; empty without such risks."""
    if study.sweep.selected is None:
        return []
    risk, y = (values[_scored_numbers(study, study.risk)] for values in (study.risk, study.rows.y))
    if len(np.unique(y)) < 2:
        return []
    return [asdict(prevalence_shift(risk, y, factor)) for factor in FACTORS]


def _scored_numbers(study: Study, score: np.ndarray) -> np.ndarray:
    """Return the numbers [T] of the tested rows that have a score."""
    return np.flatnonzero(study.folds.tested & np.isfinite(score))


def _scored_rows(study: Study, score: np.ndarray) -> Rows:
    """Return the T rows that some fold tests and that have a score."""
    return Rows(y=study.rows.y, fold=study.folds.fold, images=study.rows.image_codes).take(
        _scored_numbers(study, score)
    )


def _line(title: str, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    return {"title": title, "x": _numbers(x), "y": _numbers(y)}


def _numbers(values: np.ndarray) -> list[float | None]:
    """Round to five digits, more than can be drawn; None for nan."""
    return [round(float(value), 5) if np.isfinite(value) else None for value in values]
