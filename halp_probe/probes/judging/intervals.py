"""The 95 % interval of a measure from its bootstrap draws. Legend: N rows, B bootstrap draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student

PATCHY = 0.05  # share of draws that may be undefined before the interval says so

MOST_SPREAD = float(np.sqrt(2))  # `refit_spread` where there is no signal at all
LEAST_RARER_IMAGES = 8  # below either of these, intervals held the truth in fewer than 92 % of simulations
LEAST_IMAGES_A_FOLD = 6

_LEVEL = 0.975


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval; nan where it cannot be known, and then `note` says why."""

    value: float
    low: float
    high: float
    note: str = ""


def interval(
    value: float, draws: np.ndarray, clusters: int, bounded: bool, note: str = "", spread: float = 1.0
) -> Estimate:
    """`value` ± t · s · `spread`, s the deviation of `draws` [B], t Student's quantile with `clusters` − 1 degrees.

    `clusters` counts the images that inform the value: those that have the label that fewer images have. A `bounded`
    measure lies in 0 … 1, and its interval is made on the logit scale. Percentiles of the same draws hold the truth too
    rarely where images are few or the measure is near its bound. Draws that are nan are left out; there is no interval
    when half of them are, or with fewer than two such images.
    """
    known = draws[np.isfinite(draws)]
    if not np.isfinite(value):
        return Estimate(np.nan, np.nan, np.nan, note or "not defined on these rows")
    if 2 * len(known) <= len(draws) or len(known) < 2:
        return _without(value, note, f"it is defined in only {len(known)} of {len(draws)} bootstrap draws")
    if clusters < 2:
        return _without(value, note, f"only {clusters} image has the rarer label")
    if len(known) < (1 - PATCHY) * len(draws):
        note = joined(note, f"interval from {len(known)} of {len(draws)} bootstrap draws; undefined in the others")
    if bounded and value in (0, 1):
        return _at_bound(value, clusters, note)
    reach = float(student.ppf(_LEVEL, clusters - 1) * known.std(ddof=1)) * spread
    if not bounded:
        return Estimate(value, value - reach, value + reach, note)
    reach /= value * (1 - value)
    low, high = expit([logit(value) - reach, logit(value) + reach])
    return Estimate(value, float(low), float(high), note)


def refit_spread(scores: np.ndarray, y: np.ndarray) -> float:
    """How much wider the interval of K cross-fitted models is than that of fixed scores, from 1 to √2.

    `scores` [K, N] of every fold's model on all rows, `y` [N] of 0 and 1. A model's direction has a part that its
    training rows have by chance, of share f of its variance. Along it, a fold looks predictable as far as it is like
    the folds trained on, and each pair of folds is counted from both sides: that part of the variance doubles. Models
    share (K − 2) / (K − 1) of their training rows, so within a label their scores correlate by 1 − f / (K − 1), and the
    deviation grows by √(1 + f): 1 for models that agree, √2 for probes of shuffled labels. The bootstrap cannot see it,
    as no estimate from within the folds can (Bengio & Grandvalet 2004; the cost of the exact remedy, K times the fits,
    is in Bates, Hastie & Tibshirani 2021).
    """
    n_models = len(scores)
    if n_models < 3:
        return MOST_SPREAD  # two models share no training rows: their agreement says little
    centred = scores.astype(np.float64)
    for label in np.unique(y):
        centred[:, y == label] -= centred[:, y == label].mean(axis=1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=1))  # [K]
    if not (length > 0).all():
        return MOST_SPREAD
    likeness = (centred @ centred.T / np.outer(length, length))[np.triu_indices(n_models, 1)].mean()
    return float(np.sqrt(1 + np.clip((n_models - 1) * (1 - likeness), 0, 1)))


def too_narrow(y: np.ndarray, images: np.ndarray, folds: int) -> str:
    """Why the intervals of these rows cannot be trusted, "" when they can; `y` [N] of 0 and 1, `images` [N].

    With few images in a fold, pairs of rows of the *same* image weigh so much that the AUROC itself is off.
    """
    having = [len(np.unique(images[y == label])) for label in (0, 1)]
    n_images = len(np.unique(images))
    if min(having) < LEAST_RARER_IMAGES:
        return f"only {min(having)} images have label {int(np.argmin(having))}: the intervals are too narrow"
    if n_images < LEAST_IMAGES_A_FOLD * folds:
        return f"only {n_images} images for {folds} folds: the intervals are too narrow"
    return ""


def joined(*notes: str) -> str:
    """Each note once, in order."""
    return "; ".join(dict.fromkeys(filter(None, notes)))


def _at_bound(value: float, clusters: int, note: str) -> Estimate:
    """No draw can differ from a perfect value: what so many images without a single miss allow, as for a binomial."""
    reach = 1 - (1 - _LEVEL) ** (1 / clusters)
    note = joined(note, f"every bootstrap draw gives {value:g}; interval of {clusters} images without a miss")
    return Estimate(value, value - reach, value, note) if value else Estimate(value, value, value + reach, note)


def _without(value: float, note: str, reason: str) -> Estimate:
    return Estimate(value, np.nan, np.nan, joined(note, f"no interval: {reason}"))
