"""Rows whose label is unknown: each belongs to the fold whose model never saw its image, and only that one scores it.

Legend: N labelled rows, U unknown ones, K folds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np

from halp_probe.probes.features import UNKNOWN, LabelledRows, ShardSource
from halp_probe.probes.fitting.kinds import FittedCandidates
from halp_probe.probes.fitting.splits import Folds
from halp_probe.probes.nested import CrossFit, SelectedProbe
from halp_probe.probes.split_units import split_units
from halp_probe.probes.training_sets import TrainingSets


@dataclass(frozen=True, kw_only=True)
class UnknownRows:
    """Rows without a label that a fold's model can score; they train nothing."""

    index: np.ndarray  # [U] int, rows of the shards
    fold: np.ndarray  # [U] int
    image_codes: np.ndarray  # [N + U] int, of the labelled rows and then of these
    left_out: int  # unknown rows that no model can score without having seen their image, or without a vector


def unknown_rows(shards: ShardSource, rows: LabelledRows, folds: Folds) -> UnknownRows:
    """Find the rows whose label is unknown, and the fold of each.

    A row goes into the fold of the labelled rows of its image; one of an image of its own, into the folds in turn.
    """
    unknown = {item.question_id for item in rows.left_out if item.reason == UNKNOWN}
    ids = shards.text("image_id") if shards.has("image_id") else [" "] * len(shards.question_ids)
    named = [k for k, each in enumerate(shards.question_ids) if each in unknown and ids[k]]
    index = np.array(named, dtype=np.intp)
    everything = np.concatenate([rows.index, index])
    images = split_units(shards, everything, join_near_duplicates=rows.likeness.joined, group_by=rows.group_by).names
    fold = _folds(images[: len(rows.y)], folds, images[len(rows.y) :])
    usable = fold >= 0
    codes = np.unique(np.asarray(images), return_inverse=True)[1]
    kept = np.concatenate([np.ones(len(rows.y), dtype=bool), usable])
    return UnknownRows(
        index=index[usable], fold=fold[usable], image_codes=codes[kept], left_out=len(unknown) - int(usable.sum())
    )


def score_unknown(
    fitted: FittedCandidates, fit: CrossFit, sets: TrainingSets, X: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """Return [U] log-odds of X [U, D] by the models of the rows' folds; nan where a vector or a model is missing."""
    score = np.full(len(X), np.nan)
    has_vector = np.isfinite(X).all(axis=1)
    for k in np.unique(fold):
        own = sets.without(int(k))
        here = (fold == k) & has_vector
        if own is not None and here.any():
            score[here] = fitted.probe(own, int(fit.candidate[k])).decision_function(X[here])
    return score


def selected_unknown(selected: SelectedProbe, scores: Mapping[str, np.ndarray], fold: np.ndarray) -> np.ndarray:
    """Return [U] log-odds of the selected probe: in each fold of the representation that was chosen for it."""
    score = np.full(len(fold), np.nan)
    for k, name in enumerate(selected.representation):
        if name:
            score[fold == k] = scores[name][fold == k]
    return score


def _folds(labelled: tuple[str, ...], folds: Folds, unknown: tuple[str, ...]) -> np.ndarray:
    """Return [U] int: the fold of each unknown row, -1 where every model may have seen its image."""
    seen: dict[str, set[int]] = {}
    for image, fold in zip(labelled, folds.fold, strict=True):
        seen.setdefault(image, set()).add(int(fold))
    turn, own = count(), {}
    for image in unknown:
        if image not in own:
            places = seen.get(image)
            own[image] = next(turn) % folds.count if places is None else min(places) if len(places) == 1 else -1
    return np.array([own[image] for image in unknown], dtype=np.intp)
