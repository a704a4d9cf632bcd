"""How far a probe's number depends on how many images there are, on which folds, and on which sources it saw.

All of it is about one representation, the leading one; the strength of its penalty is chosen inside the training rows.

Legend: N rows, D width, K folds, P points of the curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from halp_probe.bootstrap import Draws, Estimate, interval
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.fitting.kinds import Fitter
from halp_probe.probes.fitting.splits import Folds, folds_of, images_on_both_sides, study_folds
from halp_probe.probes.judging.metrics import MeasuredScore, judge
from halp_probe.probes.judging.rows import Rows
from halp_probe.probes.nested import CrossFit, cross_fit, spread
from halp_probe.probes.training_sets import TrainingSets, training_sets

FRACTIONS = (1 / 8, 1 / 4, 1 / 2)  # of the images
SUBSETS = 2  # drawn of each size
OTHER_SEEDS = 4
PRECISION = 0.02  # half the width of an interval of the AUROC that one would like
LEAST_IMAGES = 40  # of a point of the curve


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """AUROC of probes trained on so many images, all judged on the same rows."""

    images: int
    auroc: Estimate


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """AUROC against the number of images, rising to all of them, and what twice as many would bring."""

    points: tuple[CurvePoint, ...]  # P
    forecast: CurvePoint | None  # of twice the images; None from fewer than three points
    images_for_precision: int | None  # at which the interval would reach PRECISION to either side


@dataclass(frozen=True, kw_only=True)
class LeftOutSource:
    """AUROC on each group of a column by probes that saw none of its rows, and the mean over the groups."""

    column: str
    mean: Estimate  # nan with the reason where it cannot be had
    by_group: Mapping[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class Stability:
    """Changes of the leading representation's number with images, folds and groups."""

    representation: str
    curve: LearningCurve
    other_folds: tuple[float, ...]  # AUROC with the images divided by other seeds; empty for fixed folds
    left_out: tuple[LeftOutSource, ...]  # of each group column


@dataclass(frozen=True, kw_only=True)
class Probed:
    """The leading representation, how it was probed, and on which rows."""

    representation: str
    X: np.ndarray  # [N, D]
    y: np.ndarray  # [N] of 0 and 1
    images: np.ndarray  # [N] int
    folds: Folds
    fit: Fitter
    whole: CrossFit
    draws: Draws
    seed: int

    def cross_fit(self, folds: Folds, keep: np.ndarray | None = None) -> CrossFit:
        """Fit on other folds, or on the rows `keep` [N] alone; all rows are scored."""
        sets = training_sets(self.y, folds)
        if keep is not None:
            train = sets.train & keep
            usable = [r for r, rows in enumerate(train) if len(np.unique(self.y[rows])) == 2]
            sets = TrainingSets(tuple(sets.left_out[r] for r in usable), train[usable])
        return cross_fit(self.fit(self.X, self.y, sets.train), self.y, folds, sets)

    def judge(self, score: np.ndarray, models: np.ndarray, folds: Folds) -> MeasuredScore:
        """Judge the AUROC of a score [N], a mean over folds."""
        rows = Rows(y=self.y, fold=folds.fold, images=self.images).take(folds.tested)
        return judge({"": score[folds.tested]}, rows, self.draws, {"": spread(models, self.y)})[""]


def stability(probed: Probed, groups: Mapping[str, Sequence[str]], *, fixed: bool) -> Stability:
    """Find out. `groups` are columns [N]; `fixed`: the folds are those of a benchmark, and no others are tried."""
    return Stability(
        representation=probed.representation,
        curve=learning_curve(probed),
        other_folds=() if fixed else _other_folds(probed),
        left_out=tuple(leave_one_out(probed, column, values) for column, values in groups.items()),
    )


def learning_curve(probed: Probed, fractions: Sequence[float] = FRACTIONS) -> LearningCurve:
    """Train on shares of the images and judge on all rows of the test folds."""
    names = np.unique(probed.images)
    measured: list[tuple[int, MeasuredScore]] = []
    for fraction in fractions:
        count = round(fraction * len(names))
        if count < LEAST_IMAGES:
            continue
        found = [_on_subset(probed, count, subset) for subset in range(SUBSETS)]
        known = [each for each in found if each is not None and np.isfinite(each.value)]
        if known:
            measured.append((count, _mean(known)))
    measured.append((len(names), probed.judge(probed.whole.score, probed.whole.models, probed.folds)))
    whole = measured[-1][1].estimate
    reach = (whole.high - whole.low) / 2
    return LearningCurve(
        points=tuple(CurvePoint(images=count, auroc=each.estimate) for count, each in measured),
        forecast=forecast(measured, 2 * len(names)) if len(measured) > 2 else None,
        images_for_precision=round(len(names) * (reach / PRECISION) ** 2) if np.isfinite(reach) else None,
    )


def forecast(measured: Sequence[tuple[int, MeasuredScore]], images: int) -> CurvePoint:
    """Extend the curve to so many images, along AUROC = a − b / √images, fitted by least squares.

    Learning curves follow inverse powers of the size (Viering & Loog 2023, arXiv 2103.10948); with three or four points
    only a fixed power can be fitted. The interval is that of the same weighted sum in every bootstrap draw.
    """
    x = np.array([[1.0, 1 / np.sqrt(count)] for count, _ in measured])  # [P, 2]
    weights = np.array([1.0, 1 / np.sqrt(images)]) @ np.linalg.pinv(x)  # [P]
    each = [score for _, score in measured]
    value = min(1.0, float(weights @ np.array([score.value for score in each])))
    draws = weights @ np.stack([score.draws for score in each])  # [B]
    clusters, wider = min(score.clusters for score in each), max(score.spread for score in each)
    found = interval(value, draws, clusters, bounded=False, spread=wider)
    return CurvePoint(images=images, auroc=replace(found, high=min(1.0, found.high)))


def leave_one_out(probed: Probed, column: str, values: Sequence[str]) -> LeftOutSource:
    """Judge each group of a column by probes of the other groups, which also choose the strength."""
    names, codes = np.unique(np.asarray(values), return_inverse=True)
    folds = folds_of(codes, probed.y)

    def nothing(reason: str) -> LeftOutSource:
        none = Estimate(value=np.nan, low=np.nan, high=np.nan, note=reason)
        return LeftOutSource(column=column, mean=none, by_group={})

    if both := images_on_both_sides(folds, probed.images):
        return nothing(f"{both} images belong to several groups, so leaving one out leaves its images in")
    if folds.count - len(folds.unjudged) < 2 or folds.count < 3:
        return nothing("fewer than two groups have both labels, or there are fewer than three groups")
    fit = probed.cross_fit(folds)
    by_group = {}
    for k, name in enumerate(names):
        rows = Rows(y=probed.y, fold=folds.fold, images=probed.images).take(codes == k)
        by_group[str(name)] = judge({"": fit.score[codes == k]}, rows, probed.draws)[""].estimate
    return LeftOutSource(column=column, mean=probed.judge(fit.score, fit.models, folds).estimate, by_group=by_group)


def _on_subset(probed: Probed, count: int, subset: int) -> MeasuredScore | None:
    """Judge the probe of `count` images drawn at random; None where too few of its folds have both labels."""
    rng = np.random.default_rng([probed.seed, count, subset])
    keep = np.isin(probed.images, rng.permutation(np.unique(probed.images))[:count])
    inside = folds_of(np.where(keep, probed.folds.fold, -1), probed.y)  # what is not drawn judges nothing inside
    if inside.count != probed.folds.count or inside.count - len(inside.unjudged) < 2:
        return None
    fit = probed.cross_fit(inside, keep)
    score = np.full(len(probed.y), np.nan)
    for k in range(probed.folds.count):
        test = probed.folds.fold == k
        score[test] = fit.models[k, test]
    return probed.judge(score, fit.models, probed.folds)


def _mean(scores: Sequence[MeasuredScore]) -> MeasuredScore:
    first = scores[0]
    return replace(
        first,
        value=float(np.mean([each.value for each in scores])),
        draws=np.mean([each.draws for each in scores], axis=0),
        spread=max(each.spread for each in scores),
    )


def _other_folds(probed: Probed) -> tuple[float, ...]:
    found = []
    for seed in range(probed.seed + 1, probed.seed + 1 + OTHER_SEEDS):
        try:
            folds = study_folds(probed.y, probed.images, probed.folds.count, seed)
        except ProbeError:  # by these folds too few would hold both labels
            continue
        fit = probed.cross_fit(folds)
        found.append(probed.judge(fit.score, fit.models, folds).value)
    return tuple(found)
