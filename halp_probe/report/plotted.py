"""The points of the report's curves: of the headline probe and of its best baseline.

Legend: T tested rows with a score.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from halp_probe.probes.judging.curves import precision_recall, reliability, risk_coverage, roc
from halp_probe.probes.study import Study


def plotted(found: Study) -> dict[str, Any]:
    """ROC, precision-recall and risk-coverage of the headline probe and its best baseline; calibration of the former.

    Rows of all folds are drawn together by their rank within their own fold: scores of two folds' models need not lie
    on one scale. Only the calibration, which is about the risk itself, takes the risk as it is.
    """
    judgement = found.judgement
    drawn: dict[str, Any] = {"roc": [], "pr": [], "risk_coverage": [], "calibration": _calibration(found)}
    for result in filter(None, (judgement.headline, judgement.best_baseline)):
        score = judgement.scores[result.name]
        known = _known(found, score)  # [T]
        y, rank = found.rows.y[known], ranks_within(found.folds.fold[known], score[known])
        if len(np.unique(y)) < 2:
            continue
        rates, precisions = roc(y, rank), precision_recall(y, rank)
        errors = risk_coverage(y, rank, *_how(found, known))
        drawn["roc"].append(_line(result.title, rates.fpr, rates.tpr))
        drawn["pr"].append(_line(result.title, precisions.recall, precisions.precision))
        band = {"low": _numbers(errors.low), "high": _numbers(errors.high)}
        drawn["risk_coverage"].append({**_line(result.title, errors.coverage, errors.error), **band})
    return drawn


def ranks_within(fold: np.ndarray, score: np.ndarray) -> np.ndarray:
    """[T] from 0 to 1: the share of the row's own fold that scores lower, ties counting half."""
    rank = np.empty(len(score))
    for k in np.unique(fold):
        inside = fold == k
        rank[inside] = (rankdata(score[inside]) - 0.5) / inside.sum()
    return rank


def _calibration(found: Study) -> dict[str, list[Any]] | None:
    """Of the selected probe's risk; None where there is none."""
    if found.sweep.selected is None:
        return None
    known = _known(found, found.risk)
    bins = reliability(found.rows.y[known], found.risk[known], *_how(found, known))
    return {
        "risk": _numbers(bins.risk),
        "rate": _numbers(bins.observed),
        "low": _numbers(bins.low),
        "high": _numbers(bins.high),
        "count": [round(float(count)) for count in bins.count],
    }


def _known(found: Study, score: np.ndarray) -> np.ndarray:
    """[T] rows."""
    return np.flatnonzero(found.folds.tested & np.isfinite(score))


def _how(found: Study, known: np.ndarray) -> tuple[np.ndarray, int, int]:
    """What a band is drawn with: images [T], bootstrap draws, seed."""
    return found.rows.image_codes[known], found.design.bootstrap, found.design.seed


def _line(title: str, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    return {"title": title, "x": _numbers(x), "y": _numbers(y)}


def _numbers(values: np.ndarray) -> list[float | None]:
    """Five digits are more than can be drawn; None for nan."""
    return [round(float(value), 5) if np.isfinite(value) else None for value in values]
