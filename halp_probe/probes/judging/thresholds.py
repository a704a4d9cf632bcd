"""Thresholds of risk below which to answer, and how many of the answers will be wrong on other images.

Legend: N rows, G images, L risk levels, B bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from halp_probe.bootstrap import Draws
from halp_probe.probes.judging.calibration import check_scores
from halp_probe.probes.judging.error_bounds import Answered, error_bounds

_MOST_LEVELS = 100  # risks that are tried as a threshold, even in the share of rows at or below them
_WORTH_NAMING = 10  # images answered at a level, for it to say what more images would do


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Highest risk at which to answer a question; nan where no threshold was found, and `reason` says why.

    `coverage` and `error` are from the rows that it was chosen on: the share answered, and the share of wrong
    answers among them. `error_bound` holds for other images like these, in 95 of 100 such choices. A threshold below
    every risk answers nothing and has no error (nan).
    """

    risk: float
    coverage: float
    error: float
    rows: int
    max_error: float | None = None  # what was wanted: an error rate among the answered, …
    min_coverage: float | None = None  # … or a share of questions to answer
    error_bound: float | None = None  # upper, 95 %, by a bootstrap over images; None where none was computed
    confidence: float | None = None  # that `max_error` holds on new images; None = no such guarantee
    per: str | None = None  # of a `confidence`: "image" (one question drawn from each) or "question" (all of them)
    reason: str = ""

    @property
    def found(self) -> bool:
        """True if there is a threshold."""
        return bool(np.isfinite(self.risk))

    @property
    def words(self) -> str:
        """Coverage and error, on the rows that it was chosen on and on others, or why there is no threshold."""
        if not self.found:
            return f"no threshold keeps the error rate at {self.max_error:g}: {self.reason}"
        told = f"answer up to risk {self.risk:.4g}: {self.coverage:.1%} of {self.rows} questions"
        told += f", {self.error:.2%} of them wrong here"
        if self.error_bound is None:
            return told
        return f"{told}, at most {self.error_bound:.1%} on other images like these (95 % bound, bootstrap over images)"

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Threshold:
        """Restore from JSON, where null stands for nan."""
        numbers = {name: np.nan if stored[name] is None else stored[name] for name in ("risk", "coverage", "error")}
        return cls(**{**stored, **numbers})


def threshold_for(risk: np.ndarray, y: np.ndarray, images: np.ndarray, max_error: float, draws: Draws) -> Threshold:
    """Return the highest threshold whose error rate is shown to be at most `max_error`; arrays [N].

    Shown: an upper bound that holds for all thresholds at once in 95 of 100 data sets of these images' like lies at or
    below `max_error`, so choosing the threshold on the same rows spoils nothing. `images` are equal for rows of one
    image. Where no threshold has such a bound, the reason says what would do. Raises ProbeError for risks that are not
    finite.
    """
    levels = _levels(risk, y)
    kept = levels.some(_MOST_LEVELS)
    answered = Answered.at(levels.between[kept], risk, y, images)
    bound = error_bounds(answered, draws)
    fitting = np.flatnonzero(bound.upper <= max_error)
    if len(fitting):
        level = int(fitting[-1])
        found = levels.threshold(int(kept[level]))
        return replace(found, max_error=max_error, error_bound=float(bound.upper[level]))
    reason = f"of {levels.rows} questions on {answered.n_images} images it cannot be shown"
    best = int(np.argmin(bound.upper))
    if bound.upper[best] < 1:
        reason += (
            f"; the lowest error rate that can be is {np.ceil(1000 * bound.upper[best]) / 1000:g}, answering "
            f"{levels.coverage[kept[best]]:.1%}"
        )
    usable = (answered.images >= _WORTH_NAMING) & (bound.likely < max_error)
    if usable.any():
        needed = bound.images_needed(max_error)[usable].min() * answered.n_images
        reason += f"; about {_rounded_up(needed)} images like these would do"
    else:
        reason += f"; more images would hardly do, as {bound.likely.min():.3f} of the least risky answers are wrong"
    return Threshold(risk=np.nan, coverage=0.0, error=np.nan, rows=levels.rows, max_error=max_error, reason=reason)


def threshold_for_coverage(risk: np.ndarray, y: np.ndarray, min_coverage: float) -> Threshold:
    """Return the lowest threshold that answers at least `min_coverage` of the questions; both arrays [N]."""
    levels = _levels(risk, y)
    return replace(levels.threshold(int(np.argmax(levels.coverage >= min_coverage))), min_coverage=min_coverage)


@dataclass(frozen=True, kw_only=True)
class _Levels:
    """Coverage and error of answering at or below each distinct risk; arrays have one entry a distinct risk, rising."""

    between: np.ndarray  # halfway to the next risk, so that rounding moves no row across; 1 after the last
    coverage: np.ndarray
    error: np.ndarray
    rows: int

    def some(self, most: int) -> np.ndarray:
        """Return the numbers of at most `most` levels, even in coverage, the last included."""
        wanted = np.linspace(0, 1, min(most, len(self.coverage)) + 1)[1:]
        return np.unique(np.searchsorted(self.coverage, wanted - 1e-9))

    def threshold(self, level: int) -> Threshold:
        return Threshold(
            risk=float(self.between[level]),
            coverage=float(self.coverage[level]),
            error=float(self.error[level]),
            rows=self.rows,
        )


def _levels(risk: np.ndarray, y: np.ndarray) -> _Levels:
    risk, y = check_scores(risk, y, "risks")
    order = np.argsort(risk, kind="stable")
    ordered = risk[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # the last row of each distinct risk
    answered = last + 1
    distinct = ordered[last]
    return _Levels(
        between=np.append((distinct[:-1] + distinct[1:]) / 2, 1.0),
        coverage=answered / len(risk),
        error=np.cumsum(y[order])[last] / answered,
        rows=len(risk),
    )


def _rounded_up(number: float) -> int:
    """Round up to two digits: what is only about right."""
    step = 10 ** max(0, int(np.floor(np.log10(number))) - 1)
    return int(np.ceil(number / step) * step)
