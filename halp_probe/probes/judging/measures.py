"""Measures of a risk score: AUROC and its companions, each over all bootstrap draws at once.

Label 1 (hallucinated) is the positive class and a higher score is a higher risk. A measure sees rows through a `Tally`;
with whole numbers as weights it is the measure of rows repeated that often, and nan where it is not defined.

Legend: N rows, U distinct scores, B bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from halp_probe.probes.judging.tally import Tally, summed_to, tally

TPR_KEPT = 0.95  # of the hallucinated answers, for `fpr_95`
COVERAGE = 0.8  # of the answers, for `error_80`
CALIBRATION_BINS = 10

_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Number about a score, and how it is to be read."""

    name: str
    title: str
    of: Callable[[Tally], np.ndarray]  # -> [B]
    needs_probability: bool  # the score must be the probability of label 1
    higher_is_better: bool | None  # None: it says nothing about the score
    bounded: bool  # it lies in 0 … 1
    by_fold: bool  # the mean over test folds, since two models' scores need not lie on one scale; False: pooled
    note: str

    def __call__(self, score: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Compute [B] from `score` [N] finite and `y` [N] of 0 and 1, under each draw's `weights` [B, N] >= 0."""
        return self.of(tally(score, y, weights))


def auroc(rows: Tally) -> np.ndarray:
    """Return [B], the chance that a row of label 1 scores above a row of label 0, ties counting half."""
    below = np.cumsum(rows.negative, axis=0)  # [U, B]
    below -= 0.5 * rows.negative
    won = np.einsum("ub,ub->b", rows.positive, below)
    return _ratio(won, rows.positives * rows.negatives)


def auprc(rows: Tally) -> np.ndarray:
    """Return [B], the average precision: precision at each distinct score, weighted by the recall that it adds."""
    found = np.cumsum(rows.positive[::-1], axis=0)  # [U, B] from the riskiest on
    flagged = np.cumsum(rows.at[::-1], axis=0)  # [U, B]
    precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
    return _ratio(np.einsum("ub,ub->b", rows.positive[::-1], precision), rows.positives)


def prevalence(rows: Tally) -> np.ndarray:
    """Return [B], the share of label 1: what a random score reaches in `auprc`."""
    return _ratio(rows.positives, rows.positives + rows.negatives)


def fpr_at_tpr(rows: Tally, tpr: float = TPR_KEPT) -> np.ndarray:
    """Return [B], the smallest share of label 0 flagged by any `score >= t` that flags at least `tpr` of label 1."""
    found = np.cumsum(rows.positive[::-1], axis=0)  # [U, B] from the riskiest on
    flagged = np.cumsum(rows.negative[::-1], axis=0)  # [U, B]
    recall = np.divide(found, found[-1], out=np.zeros_like(found), where=found[-1] > 0)
    first = np.argmax(recall >= tpr, axis=0)  # [B] the highest threshold that will do
    rate = _ratio(np.take_along_axis(flagged, first[None], axis=0)[0], flagged[-1])
    return np.where(found[-1] > 0, rate, np.nan)


def brier(rows: Tally) -> np.ndarray:
    """Return [B], the mean squared distance of the probability from the label."""
    wrong = (1 - rows.score) ** 2 @ rows.positive + rows.score**2 @ rows.negative
    return _ratio(wrong, rows.positives + rows.negatives)


def calibration_error(rows: Tally, bins: int = CALIBRATION_BINS) -> np.ndarray:
    """Return [B], the expected calibration error: |mean risk − share of label 1|, averaged over equal-weight bins.

    A score whose rows straddle the edge of a bin is shared out in proportion, so that every bin has W / bins of the
    weight W. It is biased upwards: on few rows, bins of a perfect probability miss by chance.
    """
    weight = rows.at  # [U, B]
    total = weight.sum(axis=0)  # [B]
    edges = np.linspace(0, 1, bins + 1)[:, None] * total  # [bins + 1, B]
    excess = summed_to(rows.score[:, None] * weight - rows.positive, weight, edges)  # [bins + 1, B]
    return _ratio(np.abs(np.diff(excess, axis=0)).sum(axis=0), total)


def aurc(rows: Tally) -> np.ndarray:
    """Return [B], the area under the risk-coverage curve: the error among the k least risky rows, mean over k = 1 … N.

    Geifman, Uziel & El-Yaniv 2019, "Bias-reduced uncertainty estimation for deep neural classifiers"; the curve itself:
    El-Yaniv & Wiener 2010. Rows of one score count with the mean over all their orders. Raises ValueError on fractional
    weights.
    """
    return _mean_error(rows, answered=np.zeros(rows.positive.shape[1]))


def error_at_coverage(rows: Tally, coverage: float = COVERAGE) -> np.ndarray:
    """Return [B], the error among the least risky ⌈coverage · N⌉ rows, the mean over all orders of tied rows."""
    weight = rows.at  # [U, B]
    answered = np.ceil(np.round(coverage * weight.sum(axis=0), 9))  # [B] rounded: .8 * 35 must not become 29
    return _ratio(summed_to(rows.positive, weight, answered[None])[0], answered)


def prr(rows: Tally, max_rejection: float = 1.0) -> np.ndarray:
    """Return [B], the prediction rejection ratio as lm-polygraph normalises it.

    It is 1 for the oracle, 0 for a random order. The area is the accuracy among the k least risky rows, averaged
    over k = N − R + 1 … N with R = ⌊max_rejection · N⌋; the ratio is (area − random) / (oracle − random). Two
    details differ, and only make it exact: the random area is its expectation (there: the mean of 1,000 shuffles),
    and tied rows count with the mean over their orders (there: as the sort leaves them). Malinin, Mlodozeniec &
    Gales 2020; Vashurin et al. 2025 (lm-polygraph). Raises as `aurc`.
    """
    positives, negatives = rows.positives, rows.negatives  # [B]
    total = positives + negatives
    rejected = np.floor(np.round(max_rejection * total, 9))  # [B]
    random = _ratio(positives, total)
    nothing = np.zeros_like(positives)
    perfect = Tally(
        score=np.array([0.0, 1.0]), positive=np.stack([nothing, positives]), negative=np.stack([negatives, nothing])
    )
    oracle = _mean_error(perfect, total - rejected)
    room = random - oracle
    room[room < _ROUNDING] = 0  # one class, or nothing to reject: the oracle gains nothing
    return _ratio(random - _mean_error(rows, total - rejected), room)


def _mean_error(rows: Tally, answered: np.ndarray) -> np.ndarray:
    """Return [B], the error among the k least risky rows, averaged over the k above `answered` [B].

    Within a score, error(k) = r + (F − rA) / k: r its share of label 1, A the rows before it and F those of label 1. So
    its sum over k needs only r and harmonic numbers.
    """
    weight = rows.at  # [U, B]
    ends = np.cumsum(weight, axis=0)
    before = ends - weight
    share = np.divide(rows.positive, weight, out=np.zeros_like(weight), where=weight > 0)
    offset = np.cumsum(rows.positive, axis=0) - rows.positive - share * before
    first, last = np.maximum(before, answered), np.maximum(ends, answered)
    harmonic = _harmonic_numbers(ends)
    gained = harmonic[last.astype(np.intp)] - harmonic[first.astype(np.intp)]
    return _ratio((share * (last - first) + offset * gained).sum(axis=0), ends[-1] - answered)


def _harmonic_numbers(counts: np.ndarray) -> np.ndarray:
    """Return the numbers 0, 1, 1 + 1/2, … as far as `counts` goes."""
    if not (counts == np.rint(counts)).all():
        raise ValueError("AURC and PRR count rows: their weights must be whole numbers")
    return np.append(0.0, np.cumsum(1 / np.arange(1, int(counts.max()) + 1)))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide; nan where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)


def _half_rejected(rows: Tally) -> np.ndarray:
    return prr(rows, max_rejection=0.5)


def _rank(name: str, title: str, of: Callable[[Tally], np.ndarray], higher_is_better: bool, note: str) -> Measure:
    return Measure(
        name=name,
        title=title,
        of=of,
        needs_probability=False,
        higher_is_better=higher_is_better,
        bounded=not name.startswith("prr"),
        by_fold=True,
        note=note,
    )


def _error(name: str, title: str, of: Callable[[Tally], np.ndarray], note: str) -> Measure:
    return Measure(
        name=name,
        title=title,
        of=of,
        needs_probability=True,
        higher_is_better=False,
        bounded=True,
        by_fold=False,
        note=note,
    )


_EACH = (
    _rank("auroc", "AUROC", auroc, True, "chance .5"),
    _rank("auprc", "AUPRC", auprc, True, "average precision; chance is the prevalence"),
    Measure(
        name="prevalence",
        title="prevalence",
        of=prevalence,
        needs_probability=False,
        higher_is_better=None,
        bounded=True,
        by_fold=False,
        note="share of hallucinated answers",
    ),
    _rank(
        "fpr_95",
        "FPR at 95\N{NO-BREAK SPACE}% TPR",
        fpr_at_tpr,
        False,
        "right answers flagged to catch 95 % of the wrong ones",
    ),
    _error("brier", "Brier score", brier, "mean squared error of the risk"),
    _error("ece", "ECE", calibration_error, "10 bins of equal mass; biased upwards on few rows"),
    _rank("aurc", "AURC", aurc, False, "mean error over all coverages; chance is the prevalence"),
    _rank(
        "error_80",
        "error at 80\N{NO-BREAK SPACE}% coverage",
        error_at_coverage,
        False,
        "the riskiest 20 % are not answered",
    ),
    _rank("prr", "PRR", prr, True, "lm-polygraph's prr_normalized, by fold; chance 0, oracle 1"),
    _rank("prr_50", "PRR to 50\N{NO-BREAK SPACE}%", _half_rejected, True, "lm-polygraph's prr_0.5_normalized, by fold"),
)
MEASURES: Mapping[str, Measure] = MappingProxyType({measure.name: measure for measure in _EACH})
