"""The only bootstrap of the package: draws of images, and the 95 % interval of a value from its draws.

Legend: N rows, B bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student

PATCHY = 0.05  # share of draws that may be undefined before the interval says so

_LEVEL = 0.975
_CELLS_AT_ONCE = 500_000  # weights in memory at a time: what fits a processor's cache is fastest


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Draws of a bootstrap: their number, and the seed of the generator that makes them."""

    count: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with the ends of its 95 % interval; nan where it is undefined, and then `note` says why."""

    value: float
    low: float
    high: float
    note: str = ""


def interval(
    value: float,
    draws: np.ndarray,
    clusters: int,
    bounded: bool,
    note: str = "",
    spread: float = 1.0,
    unit: str = "image",
) -> Estimate:
    """Return `value` ± t · s · `spread`: s the deviation of `draws` [B], t Student's with `clusters` − 1 degrees.

    `clusters` is the number of images that inform the value: the images with the rarer label. A `bounded` measure lies
    in 0 … 1, and its interval is computed on the logit scale. Percentiles of the same draws cover the truth too rarely
    where images are few or the measure is near its bound. Draws that are nan are left out; there is no interval if half
    of them are, or with fewer than two such images. `unit` names the resampled unit in the note.
    """
    finite = draws[np.isfinite(draws)]
    if not np.isfinite(value):
        return Estimate(value=np.nan, low=np.nan, high=np.nan, note=note or "not defined on these rows")
    if 2 * len(finite) <= len(draws) or len(finite) < 2:
        return _no_interval(value, note, f"it is defined in only {len(finite)} of {len(draws)} bootstrap draws")
    if clusters < 2:
        return _no_interval(value, note, f"only {clusters} {unit} has the rarer label")
    if len(finite) < (1 - PATCHY) * len(draws):
        note = join_notes(note, f"interval from {len(finite)} of {len(draws)} bootstrap draws; undefined in the others")
    if bounded and value in (0, 1):
        return _interval_at_bound(value, clusters, unit, note)
    reach = float(student.ppf(_LEVEL, clusters - 1) * finite.std(ddof=1)) * spread
    if not bounded:
        return Estimate(value=value, low=value - reach, high=value + reach, note=note)
    reach /= value * (1 - value)
    low, high = expit([logit(value) - reach, logit(value) + reach])
    return Estimate(value=value, low=float(low), high=float(high), note=note)


def p_value(value: float, draws: np.ndarray, clusters: int, spread: float = 1.0) -> float:
    """Return the two-sided p-value of `value` = 0 by the t test that the interval is of; nan where there is none."""
    finite = draws[np.isfinite(draws)]
    if not np.isfinite(value) or 2 * len(finite) <= len(draws) or len(finite) < 2 or clusters < 2:
        return float("nan")
    deviation = float(finite.std(ddof=1)) * spread
    if deviation == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * student.sf(abs(value) / deviation, clusters - 1))


def image_draws(images: np.ndarray, draws: Draws) -> Iterator[np.ndarray]:
    """Yield blocks [b, N] of B draws in all: how often each row's image was drawn; `images` [N]."""
    codes = np.unique(images, return_inverse=True)[1]
    n_images = int(codes.max()) + 1
    rng = np.random.default_rng(draws.seed)
    step = max(1, _CELLS_AT_ONCE // len(codes))
    for begin in range(0, draws.count, step):
        size = min(step, draws.count - begin)
        counts = [np.bincount(rng.integers(n_images, size=n_images), minlength=n_images) for _ in range(size)]
        yield np.stack(counts, axis=1).astype(np.int32)[codes].T  # rows first in memory, as `tally` reads them


def join_notes(*notes: str) -> str:
    """Return the notes in order, each once, separated by semicolons."""
    return "; ".join(dict.fromkeys(filter(None, notes)))


def _interval_at_bound(value: float, clusters: int, unit: str, note: str) -> Estimate:
    """Return the exact binomial interval of a perfect value, from which no bootstrap draw can differ."""
    reach = 1 - (1 - _LEVEL) ** (1 / clusters)
    note = join_notes(note, f"every bootstrap draw gives {value:g}; interval of {clusters} {unit}s without a miss")
    return (
        Estimate(value=value, low=value - reach, high=value, note=note)
        if value
        else Estimate(value=value, low=value, high=value + reach, note=note)
    )


def _no_interval(value: float, note: str, reason: str) -> Estimate:
    return Estimate(value=value, low=np.nan, high=np.nan, note=join_notes(note, f"no interval: {reason}"))
