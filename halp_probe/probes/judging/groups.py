"""AUROC within the groups of a column, and its mean over them. Legend: N rows, G groups, B bootstrap draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from halp_probe.bootstrap import Estimate, image_draws, interval
from halp_probe.probes.judging.measures import MEASURES
from halp_probe.probes.judging.metrics import rarer_images
from halp_probe.probes.judging.tally import tally

LEAST_IMAGES = 10  # with either label, for a group to have an AUROC


@dataclass(frozen=True, kw_only=True)
class Group:
    """The rows of one value of the column that have a score."""

    value: str
    n: int
    n_positive: int
    n_images: int
    auroc: Estimate  # its note says why it is nan


@dataclass(frozen=True)
class Grouped:
    """Every group, also those too small to judge, and the mean over the others."""

    groups: tuple[Group, ...]  # by value
    macro: Estimate  # the plain mean of the groups' AUROCs; its note says which groups are not in it


def by_group(
    y: np.ndarray,
    score: np.ndarray,
    fold: np.ndarray,
    values: Sequence[str],
    images: np.ndarray,
    n_draws: int,
    seed: int,
    minimum: int = LEAST_IMAGES,
    spread: float = 1.0,
) -> Grouped:
    """AUROC of `score` [N] within each of `values` [N], all on the same draws of `images` [N].

    Only pairs of rows of one test `fold` [N] are compared, all such pairs of a group alike: two models' scores need not
    lie on one scale, and even calibrated risks do not, since where a test fold has more of a label its training rows
    have less. Rows without a score are not counted. `spread` is the `refit_spread` of the score.

    A group is judged when at least `minimum` images have either label; the macro mean is over the judged groups, the
    same ones in every draw: it tells whether risk is found *within* groups, where knowing the group is worth nothing.
    """
    named = np.asarray(values, dtype=str)
    names = [str(value) for value in np.unique(named)]
    rows = {name: np.flatnonzero((named == name) & np.isfinite(score)) for name in names}
    clusters = {name: rarer_images(y[rows[name]], images[rows[name]]) for name in names}
    judged = [name for name in names if clusters[name] >= minimum]
    weights = chain([np.ones((1, len(y)))], image_draws(images, n_draws, seed))
    blocks = [_aurocs(y, score, fold, [rows[name] for name in judged], w) for w in weights]
    aurocs = dict(zip(judged, np.concatenate(blocks, axis=1), strict=True))  # name -> [1 + B]
    groups = []
    for name in names:
        inside = rows[name]
        estimate = (
            _estimate(aurocs[name], clusters[name], spread)
            if name in aurocs
            else _too_small(y[inside], images[inside], minimum)
        )
        groups.append(
            Group(
                value=name,
                n=len(inside),
                n_positive=int(y[inside].sum()),
                n_images=len(np.unique(images[inside])),
                auroc=estimate,
            )
        )
    return Grouped(tuple(groups), _macro(aurocs, sum(clusters[name] for name in judged), len(names), spread))


def _aurocs(
    y: np.ndarray, score: np.ndarray, fold: np.ndarray, judged: Sequence[np.ndarray], weights: np.ndarray
) -> np.ndarray:
    """[G, B] nan where no fold has both labels."""
    won, pairs = np.zeros((2, len(judged), len(weights)))
    for g, rows in enumerate(judged):
        for k in np.unique(fold[rows]):
            inside = rows[fold[rows] == k]
            found = tally(y[inside], score[inside], weights.T[inside].T)
            count = found.positives * found.negatives  # [B]
            won[g] += np.nan_to_num(MEASURES["auroc"].of(found)) * count
            pairs[g] += count
    return np.divide(won, pairs, out=np.full(won.shape, np.nan), where=pairs > 0)


def _macro(aurocs: Mapping[str, np.ndarray], clusters: int, n_groups: int, spread: float) -> Estimate:
    if not aurocs:
        return Estimate(value=np.nan, low=np.nan, high=np.nan, note="no group can be judged")
    mean = np.mean(list(aurocs.values()), axis=0)  # [1 + B] nan in a draw that leaves any group without a class
    left_out = n_groups - len(aurocs)
    note = f"{left_out} of {n_groups} groups are too small to be in the mean" if left_out else ""
    return _estimate(mean, clusters, spread, note)


def _estimate(drawn: np.ndarray, clusters: int, spread: float, note: str = "") -> Estimate:
    """From [1 + B]: the rows as they are, then the draws."""
    return interval(float(drawn[0]), drawn[1:], clusters, bounded=True, note=note, spread=spread)


def _too_small(y: np.ndarray, images: np.ndarray, minimum: int) -> Estimate:
    if not len(y):
        reason = "no row has a score"
    elif len(np.unique(y)) == 1:
        reason = f"all {len(y)} rows have label {y[0]}"
    else:
        having = {label: len(np.unique(images[y == label])) for label in (0, 1)}
        label = min(having, key=having.__getitem__)
        reason = f"images with label {label}: {having[label]}, fewer than {minimum}"
    return Estimate(value=np.nan, low=np.nan, high=np.nan, note=reason)
