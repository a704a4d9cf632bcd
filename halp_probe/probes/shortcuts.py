"""Shortcuts: columns of the table that nobody named as groups although a lookup of them predicts the label.

Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from halp_probe.bootstrap import Draws, Estimate
from halp_probe.catalog.entries import BENCHMARKS
from halp_probe.probes.baselines import fit_lookup
from halp_probe.probes.features import MOST_VALUES, LabelledRows, ShardSource
from halp_probe.probes.fitting.splits import Folds
from halp_probe.probes.judging.metrics import judge
from halp_probe.probes.nested import cross_fit, spread
from halp_probe.probes.training_sets import training_sets
from halp_probe.shards.columns import CORE_TEXTS, IMAGES

_MOST_DRAWS = 400


@dataclass(frozen=True, kw_only=True)
class Shortcut:
    """Column whose lookup, on the folds of the probes, is shown to be better than chance."""

    column: str
    auroc: Estimate
    leak: str = ""  # how it gives the ground truth away, where that is known of the benchmark


def shortcuts(shards: ShardSource, rows: LabelledRows, folds: Folds, draws: Draws) -> tuple[Shortcut, ...]:
    """Look every further text column of 2 to 50 values up, and return those that predict the label, the best first.

    Group columns are baselines already, and the column of fixed folds is made of the split: neither is tried.
    """
    sets = training_sets(rows.y, folds)
    scores, spreads = {}, {}
    for column, codes in _columns(shards, rows):
        found = cross_fit(fit_lookup(codes, rows.y, sets.train), rows.y, folds, sets)
        scores[column], spreads[column] = found.score[folds.tested], spread(found.models, rows.y)
    few = replace(draws, count=min(draws.count, _MOST_DRAWS))
    judged = judge(scores, rows.take_tested(folds), few, spreads) if scores else {}
    leaks = _known_leaks(rows)
    found_all = [
        Shortcut(column=column, auroc=each.estimate, leak=leaks.get(column, ""))
        for column, each in judged.items()
        if each.estimate.low > 0.5
    ]
    return tuple(sorted(found_all, key=lambda each: -each.auroc.value))


def _columns(shards: ShardSource, rows: LabelledRows) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the codes [N] of each column that may be looked up; one that repeats another is not tried."""
    known = {*CORE_TEXTS, IMAGES, *rows.groups, *([] if rows.fixed is None else [rows.fixed.column])}
    tried = {np.unique(np.asarray(values), return_inverse=True)[1].tobytes() for values in rows.groups.values()}
    for column in shards.text_columns:
        if column in known:
            continue
        names, codes = np.unique(np.asarray(shards.text(column))[rows.index], return_inverse=True)
        if 2 <= len(names) <= MOST_VALUES and codes.tobytes() not in tried:
            tried.add(codes.tobytes())
            yield column, codes


def _known_leaks(rows: LabelledRows) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name in rows.datasets:
        if name in BENCHMARKS:
            found |= BENCHMARKS[name].leaks
    return found
