"""Groups of a column: the AUROC within each, and its mean over them.

Legend: N rows, G groups, B bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from halp_probe.bootstrap import Draws, Estimate, image_draws, interval
from halp_probe.probes.judging.measures import MEASURES
from halp_probe.probes.judging.metrics import judge
from halp_probe.probes.judging.rows import Rows
from halp_probe.probes.judging.tally import tally

LEAST_IMAGES = 10  # with either label, for a group to have an AUROC


@dataclass(frozen=True, kw_only=True)
class Group:
    """Counts of the rows of one value of the column that have a score, and their AUROC."""

    value: str
    n: int
    n_positive: int
    n_images: int
    auroc: Estimate  # its note says why it is nan

    @property
    def has_one_label(self) -> bool:
        """True where all rows have the same label."""
        return self.n > 0 and self.n_positive in (0, self.n)


@dataclass(frozen=True, kw_only=True)
class OneLabel:
    """Groups that have one label only, and what the score is worth without them."""

    groups: tuple[Group, ...]
    share: float  # of the rows
    chance: float  # at most: that some group would lack a label if its images were drawn from all images by lot
    auroc_without: Estimate


@dataclass(frozen=True)
class GroupResults:
    """AUROC of every group, also of those too small to judge, and the mean over the others."""

    groups: tuple[Group, ...]  # by value
    macro: Estimate  # the plain mean of the groups' AUROCs; its note says which groups are not in it
    one_label: OneLabel | None = None  # None where every group has both labels


def by_group(
    score: np.ndarray,
    rows: Rows,
    values: Sequence[str],
    draws: Draws,
    minimum: int = LEAST_IMAGES,
    spread: float = 1.0,
) -> GroupResults:
    """Judge the AUROC of `score` [N] within each of `values` [N], all on the same draws of images.

    Only pairs of rows of one test fold are compared, all such pairs of a group alike: two models' scores need not
    lie on one scale, and even calibrated risks do not, since where a test fold has more of a label its training rows
    have less. Rows without a score are not counted. `spread` is the `refit_spread` of the score.

    A group is judged when at least `minimum` images have either label; the macro mean is over the judged groups, the
    same ones in every draw: it shows whether risk is found *within* groups, where knowing the group is worth nothing.
    """
    named = np.asarray(values, dtype=str)
    names = [str(value) for value in np.unique(named)]
    members = {name: np.flatnonzero((named == name) & np.isfinite(score)) for name in names}
    of_group = {name: rows.take(members[name]) for name in names}
    clusters = {name: of_group[name].rarer_images for name in names}
    judged = [name for name in names if clusters[name] >= minimum]
    weights = chain([np.ones((1, len(rows)))], image_draws(rows.images, draws))
    blocks = [_aurocs(score, rows, [members[name] for name in judged], w) for w in weights]
    aurocs = dict(zip(judged, np.concatenate(blocks, axis=1), strict=True))  # name -> [1 + B]
    groups = []
    for name in names:
        inside = of_group[name]
        estimate = _estimate(aurocs[name], clusters[name], spread) if name in aurocs else _too_small(inside, minimum)
        groups.append(
            Group(
                value=name,
                n=len(inside),
                n_positive=int(inside.y.sum()),
                n_images=len(np.unique(inside.images)),
                auroc=estimate,
            )
        )
    macro = _macro(aurocs, sum(clusters[name] for name in judged), groups, spread)
    return GroupResults(tuple(groups), macro, _one_label(score, rows, named, groups, draws, spread))


def _aurocs(score: np.ndarray, rows: Rows, judged: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return [G, B] AUROCs, nan where no fold has both labels."""
    won, pairs = np.zeros((2, len(judged), len(weights)))
    for g, members in enumerate(judged):
        for k in np.unique(rows.fold[members]):
            inside = members[rows.fold[members] == k]
            found = tally(score[inside], rows.y[inside], weights.T[inside].T)
            count = found.positives * found.negatives  # [B]
            won[g] += np.nan_to_num(MEASURES["auroc"].of(found)) * count
            pairs[g] += count
    return np.divide(won, pairs, out=np.full(won.shape, np.nan), where=pairs > 0)


def _one_label(
    score: np.ndarray, rows: Rows, named: np.ndarray, groups: Sequence[Group], draws: Draws, spread: float
) -> OneLabel | None:
    """Find the groups with one label, and judge the score without them as the whole is judged: the mean over folds."""
    alone = [group for group in groups if group.has_one_label]
    if not alone:
        return None
    kept = ~np.isin(named, [group.value for group in alone]) & np.isfinite(score)
    both = len(np.unique(rows.y[kept])) == 2
    without = (
        judge({"": score[kept]}, rows.take(kept), draws, {"": spread})[""].estimate
        if both
        else Estimate(value=np.nan, low=np.nan, high=np.nan, note="no row of one of the labels is left")
    )
    n_images, n = len(np.unique(rows.images)), sum(group.n for group in groups)
    lacking = [1 - len(np.unique(rows.images[rows.y == label])) / n_images for label in (0, 1)]  # of all images
    lots = [lacking[0 if group.n_positive else 1] ** group.n_images for group in alone]
    return OneLabel(
        groups=tuple(alone),
        share=sum(group.n for group in alone) / n,
        chance=float(min(1.0, min(lots) * len(groups))),
        auroc_without=without,
    )


def _macro(aurocs: Mapping[str, np.ndarray], clusters: int, groups: Sequence[Group], spread: float) -> Estimate:
    if not aurocs:
        return Estimate(value=np.nan, low=np.nan, high=np.nan, note="no group can be judged")
    mean = np.mean(list(aurocs.values()), axis=0)  # [1 + B] nan in a draw that leaves any group without a class
    alone = sum(group.has_one_label for group in groups)
    small = len(groups) - len(aurocs) - alone
    reasons = [f"{alone} with one label only"] * (alone > 0) + [f"{small} with too few images of a label"] * (small > 0)
    note = f"not in the mean: {', '.join(reasons)}, of {len(groups)} groups" if reasons else ""
    return _estimate(mean, clusters, spread, note)


def _estimate(drawn: np.ndarray, clusters: int, spread: float, note: str = "") -> Estimate:
    """Estimate from `drawn` [1 + B]: the rows as they are, then the draws."""
    return interval(float(drawn[0]), drawn[1:], clusters, bounded=True, note=note, spread=spread)


def _too_small(rows: Rows, minimum: int) -> Estimate:
    if not len(rows):
        reason = "no row has a score"
    elif len(np.unique(rows.y)) == 1:
        reason = f"all {len(rows)} rows have label {rows.y[0]}"
    else:
        having = {label: len(np.unique(rows.images[rows.y == label])) for label in (0, 1)}
        label = min(having, key=having.__getitem__)
        reason = f"images with label {label}: {having[label]}, fewer than {minimum}"
    return Estimate(value=np.nan, low=np.nan, high=np.nan, note=reason)
