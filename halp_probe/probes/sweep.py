"""Fit every representation and baseline on the same outer folds, and score each test fold once.

Legend: N rows, D width, K folds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from halp_probe.probes.baselines import SHUFFLED_C, QuestionTextProbe, shuffled
from halp_probe.probes.estimators import LinearProbe
from halp_probe.probes.features import LabelledRows, ShardSource
from halp_probe.probes.mlp import MLPProbe
from halp_probe.probes.splits import Folds, outer_folds


@dataclass(frozen=True)
class CrossFit:
    """One kind of input through all folds."""

    risk: np.ndarray  # [N] out-of-fold probability of label 1; nan where no model could be fitted
    Cs: tuple[float, ...]  # chosen in each fold that was fitted; empty for probes without a C
    final: Any  # the probe fitted on all rows


@dataclass(frozen=True)
class ShuffledControl:
    """A probe of shuffled labels: judge `risk` against `y` on these folds, never against the true labels."""

    representation: str
    risk: np.ndarray  # [N]
    y: np.ndarray  # [N]
    folds: Folds


@dataclass(frozen=True)
class Sweep:
    fits: dict[str, CrossFit]  # by representation
    text: CrossFit | None  # None where there are no question texts
    control: ShuffledControl


def sweep(shards: ShardSource, rows: LabelledRows, folds: Folds, kind: str, seed: int) -> Sweep:
    """All representations, one in memory at a time; then the baselines that need fitting."""
    template = LinearProbe(random_state=seed) if kind == "linear" else MLPProbe(random_state=seed)
    codes = rows.image_codes
    fits = {}
    for name in _announced(rows.representations):
        fits[name] = cross_fit(template, rows.vectors(shards, name), rows.y, codes, folds)
    text = None
    if rows.questions is not None:
        questions = np.array(rows.questions, dtype=object)  # [N]
        text = cross_fit(QuestionTextProbe(random_state=seed), questions, rows.y, codes, folds)
    return Sweep(fits, text, _shuffled_control(shards, rows, folds.count, seed))


def cross_fit(template: Any, X: np.ndarray, y: np.ndarray, images: np.ndarray, folds: Folds) -> CrossFit:
    """Clones of the template fitted on each fold's training rows and, last, on all rows; X [N, D] or [N] texts.

    Fits run side by side with one BLAS thread each: at these sizes BLAS's own threads cost more than they give (on two
    cores, one of them busy, they were 15 times slower). MLPs need processes, since torch's generator is global.
    """
    fitted = [k for k in range(folds.count) if k not in folds.untrainable]
    training = [folds.split(k).train for k in fitted] + [np.arange(len(y))]
    side_by_side = Parallel(n_jobs=-1, prefer="processes" if isinstance(template, MLPProbe) else "threads")
    with threadpool_limits(1, user_api="blas"):
        probes = side_by_side(delayed(_fitted)(template, X, y, images, rows) for rows in training)
        risk = np.full(len(y), np.nan)  # [N]
        for k, probe in zip(fitted, probes, strict=False):
            test = folds.split(k).test
            risk[test] = probe.predict_proba(X[test])[:, 1]
    Cs = tuple(probe.C_ for probe in probes[:-1] if hasattr(probe, "C_"))
    return CrossFit(risk, Cs, final=probes[-1])


def _fitted(template: Any, X: np.ndarray, y: np.ndarray, images: np.ndarray, rows: np.ndarray) -> Any:
    return clone(template).fit(X[rows], y[rows], groups=images[rows])


def _shuffled_control(shards: ShardSource, rows: LabelledRows, n_folds: int, seed: int) -> ShuffledControl:
    """A linear probe of shuffled labels on the last representation, on folds that are stratified by those labels."""
    representation = rows.representations[-1]
    y = shuffled(rows.y, seed)
    folds = outer_folds(y, rows.image_codes, n_folds, seed)
    template = LinearProbe(Cs=(SHUFFLED_C,), random_state=seed)
    fit = cross_fit(template, rows.vectors(shards, representation), y, rows.image_codes, folds)
    return ShuffledControl(representation, fit.risk, y, folds)


def _announced(names: Sequence[str]) -> Iterator[str]:
    """The names one by one: a bar on a terminal, a plain line each elsewhere; on stderr."""
    if sys.stderr.isatty():
        yield from tqdm(names, unit="representation", leave=False)
        return
    for number, name in enumerate(names, 1):
        print(f"{number}/{len(names)} {name}", file=sys.stderr, flush=True)
        yield name
