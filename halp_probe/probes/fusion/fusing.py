"""All fused probes of a study, on its folds: what a fusion chooses, it chooses inside the training folds.

Legend: N rows, K folds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from halp_probe.probes.features import LabelledRows, ShardSource
from halp_probe.probes.fitting.kinds import Fitter
from halp_probe.probes.fitting.splits import Folds
from halp_probe.probes.fusion.components import fit_components
from halp_probe.probes.fusion.differences import differences
from halp_probe.probes.fusion.fused import FusedProbe, Part, add_up, number_part, one_part
from halp_probe.probes.fusion.names import NUMBERS, fused_name
from halp_probe.probes.fusion.stacking import ScoreColumn, stack
from halp_probe.probes.names import CONCAT, MEAN, STACK, STATE_DIFFERENCE
from halp_probe.probes.nested import CrossFit, cross_fit
from halp_probe.probes.training_sets import TrainingSets
from halp_probe.shards.names import is_representation


@dataclass(frozen=True, kw_only=True)
class Fusing:
    """Inputs of every way to fuse."""

    shards: ShardSource
    rows: LabelledRows
    folds: Folds
    sets: TrainingSets
    fit: Fitter
    fits: Mapping[str, CrossFit]  # by representation


def fuse(fusing: Fusing, ways: Sequence[str], done: Callable[[str], None]) -> dict[str, CrossFit]:
    """Return the fused probes by name, each also together with the model's own confidence where that is known.

    The `final` of each is a FusedProbe. There is none of a single representation. `done` is called with the name of
    each way.
    """
    if len(fusing.fits) < 2:
        return {}
    makers = {STACK: _stack, MEAN: _mean, CONCAT: _concat, STATE_DIFFERENCE: _difference}
    numbers = [name for name in NUMBERS if np.isfinite(fusing.rows.numbers.get(name, np.array(np.nan))).all()]
    found: dict[str, CrossFit] = {}
    for way in ways:
        fused = makers[way](fusing)
        if fused is not None:
            found[fused_name(way)] = fused
            if numbers:
                found[fused_name(way, confidence=True)] = _with_numbers(fusing, fused, numbers)
        done(way)
    return found


def _stack(fusing: Fusing) -> CrossFit:
    members = [one_part(name, fit.final) for name, fit in fusing.fits.items()]
    return _stacked(fusing, [ScoreColumn.of_fit(fit) for fit in fusing.fits.values()], members)


def _with_numbers(fusing: Fusing, fused: CrossFit, numbers: Sequence[str]) -> CrossFit:
    """Return a stack of a fused probe and of what the model itself says of its first token."""
    columns = [ScoreColumn.of_number(fusing.rows.numbers[name], fusing.folds.count) for name in numbers]
    members = [number_part(name) for name in numbers]
    return _stacked(fusing, [ScoreColumn.of_fit(fused), *columns], [fused.final, *members])


def _stacked(fusing: Fusing, columns: Sequence[ScoreColumn], members: Sequence[FusedProbe]) -> CrossFit:
    found, weights = stack(columns, fusing.rows.y, fusing.folds)
    return replace(found, final=add_up(members, weights.weights, weights.intercept))


def _mean(fusing: Fusing) -> CrossFit:
    """Return the mean log-odds of all probes; nothing is fitted."""
    fits = list(fusing.fits.values())
    found = {
        name: np.mean([getattr(fit, name) for fit in fits], axis=0)
        for name in ("score", "models", "inner_score", "final_score")
    }
    equal = np.full(len(fits), 1 / len(fits))
    unchosen = np.isfinite(found["models"]).all(axis=1)
    return CrossFit(
        **found,
        candidates=(np.nan,),
        candidate=np.where(unchosen, 0, -1),
        inner_auroc=np.full(fusing.folds.count, np.nan),
        final=add_up([one_part(name, fit.final) for name, fit in fusing.fits.items()], equal, 0.0),
        final_auroc=np.nan,
    )


def _concat(fusing: Fusing) -> CrossFit:
    def read(name: str) -> np.ndarray:
        return fusing.rows.vectors(fusing.shards, name)

    fitted = fit_components(list(fusing.fits), read, fusing.rows.y, fusing.sets.train)
    return cross_fit(fitted, fusing.rows.y, fusing.folds, fusing.sets)


def _difference(fusing: Fusing) -> CrossFit | None:
    """Return the probe of a difference of two states, chosen for each fold by the inner folds; None without any."""
    y, read = fusing.rows.y, fusing.rows.vectors
    known = [name for name in fusing.fits if is_representation(name)]
    fits = {}
    for each in differences(known):
        X = read(fusing.shards, each.first) - read(fusing.shards, each.second)
        fit = cross_fit(fusing.fit(X, y, fusing.sets.train), y, fusing.folds, fusing.sets)
        part = Part(inputs=(each.first, each.second), estimator=fit.final, weight=1.0)
        fits[each.name] = replace(fit, final=FusedProbe(parts=(part,)))
    return choose(fits, y, fusing.folds) if fits else None


def choose(fits: Mapping[str, CrossFit], y: np.ndarray, folds: Folds) -> CrossFit:
    """Return in each fold the fit with the highest inner AUROC, the first of equals; `candidate` counts the fits.

    `final` is that with the highest AUROC over all folds.
    """
    each = list(fits.values())
    inner = np.stack([fit.inner_auroc for fit in each])  # [fits, K]
    candidate = np.full(folds.count, -1)
    score, models, inner_score = np.full(len(y), np.nan), *(np.full((folds.count, len(y)), np.nan) for _ in range(2))
    for k in range(folds.count):
        if np.isnan(inner[:, k]).all():
            continue
        candidate[k] = int(np.nanargmax(inner[:, k]))
        own, test = each[candidate[k]], folds.fold == k
        score[test], models[k], inner_score[k] = own.score[test], own.models[k], own.inner_score[k]
    best = max(each, key=lambda fit: np.nan_to_num(fit.final_auroc, nan=-1.0))
    chosen_auroc = [inner[c, k] if c >= 0 else np.nan for k, c in enumerate(candidate)]
    return replace(
        best,
        score=score,
        models=models,
        inner_score=inner_score,
        candidates=tuple(float(number) for number in range(len(each))),
        names=tuple(fits),
        candidate=candidate,
        inner_auroc=np.array(chosen_auroc),
    )
