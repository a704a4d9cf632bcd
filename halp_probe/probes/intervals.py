"""The 95 % interval of a measure from its bootstrap draws. Legend: B bootstrap draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student

PATCHY = 0.05  # share of draws that may be undefined before the interval says so

_LEVEL = 0.975


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval; nan where it cannot be known, and then `note` says why."""

    value: float
    low: float
    high: float
    note: str = ""


def interval(value: float, draws: np.ndarray, clusters: int, bounded: bool, note: str = "") -> Estimate:
    """`value` ± t · s, s the standard deviation of `draws` [B], t Student's quantile with `clusters` − 1 degrees.

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
    reach = float(student.ppf(_LEVEL, clusters - 1) * known.std(ddof=1))
    if not bounded:
        return Estimate(value, value - reach, value + reach, note)
    reach /= value * (1 - value)
    low, high = expit([logit(value) - reach, logit(value) + reach])
    return Estimate(value, float(low), float(high), note)


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
