"""Upper bounds of the error rate among the answered, for many thresholds at once.

Legend: N rows, G images, L levels of risk, B bootstrap draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, norm
from scipy.stats import t as student

from halp_probe.bootstrap import Draws, image_draws

BOUND_LEVEL = 0.95  # one-sided
_LEVEL_OF_FEW = 0.975  # of levels with few errors, which no bootstrap tells to move together: there are several
_FEW = 5  # images with a wrong answer: below, each image counts as one answer, whatever the bootstrap says


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Answered questions at each level, by image."""

    rows: np.ndarray  # [G, L] rows answered
    wrong: np.ndarray  # [G, L] of them wrong

    @classmethod
    def at(cls, levels: np.ndarray, risk: np.ndarray, y: np.ndarray, images: np.ndarray) -> Answered:
        """Count rows of risk [N] at or below each of `levels` [L]; `y` [N] of 0 and 1, `images` [N]."""
        codes = np.unique(images, return_inverse=True)[1]
        shape = (int(codes.max()) + 1, len(levels))
        first = np.searchsorted(levels, risk)  # [N] the first level that answers the row; L where none does
        rows, wrong = np.zeros(shape), np.zeros(shape)
        some = first < len(levels)
        np.add.at(rows, (codes[some], first[some]), 1)
        np.add.at(wrong, (codes[some], first[some]), y[some])
        return cls(rows=rows.cumsum(axis=1), wrong=wrong.cumsum(axis=1))

    @property
    def n_images(self) -> int:
        """All images, G."""
        return len(self.rows)

    @property
    def images(self) -> np.ndarray:
        """Images [L] of which something is answered."""
        return (self.rows > 0).sum(axis=0)


@dataclass(frozen=True, kw_only=True)
class ErrorBounds:
    """Upper bounds [L] that hold at all levels at once, and what they are made from."""

    upper: np.ndarray  # [L]
    error: np.ndarray  # [L] on these rows
    likely: np.ndarray  # [L] the same, drawn a little towards 1/2, as one right and one wrong answer more would
    worth: np.ndarray  # [L] independent answers that the answered rows are worth
    reach: float  # standard deviations

    def images_needed(self, max_error: float) -> np.ndarray:
        """Return [L], how many times as many images bring the bound down to `max_error`; inf where none do."""
        gap = max_error - self.likely
        needed = self.reach**2 * max_error * (1 - max_error) / np.where(gap > 0, gap, np.nan) ** 2
        return np.nan_to_num(needed / self.worth, nan=np.inf)


def error_bounds(answered: Answered, draws: Draws) -> ErrorBounds:
    """Bound the error rate at every level, so that all bounds hold in 95 of 100 data sets of such images.

    The rate is a ratio of sums over images. Its variance comes from a bootstrap over images and says how many
    independent answers the rows are worth; the bound is the exact binomial one (Clopper & Pearson 1934) for so many. It
    is as many standard deviations away as the largest deviation over all levels is in 95 % of the draws (max-t), at
    least Student's quantile.
    """
    total, wrong = answered.rows.sum(axis=0), answered.wrong.sum(axis=0)  # [L]
    error = wrong / total
    drawn = _drawn_errors(answered, draws)  # [B, L]
    deviation = np.nanstd(drawn, axis=0)
    erring = (answered.wrong > 0).sum(axis=0)  # [L] images with a wrong answer
    sound = (erring >= _FEW) & (deviation > 0) & (total > wrong)
    worth = np.minimum(total, answered.images).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = error * (1 - error) / deviation**2
    worth = np.where(sound, np.clip(found, 1, total), np.minimum(worth, np.where(found > 0, found, np.inf)))
    reach = _reach((error - drawn)[:, sound] / deviation[sound], int(erring.max()))
    alone = max(reach, float(norm.ppf(_LEVEL_OF_FEW)))
    return ErrorBounds(
        upper=_binomial(error, worth, np.where(sound, reach, alone)),
        error=error,
        likely=(error * worth + 1) / (worth + 2),
        worth=worth,
        reach=reach,
    )


def _drawn_errors(answered: Answered, draws: Draws) -> np.ndarray:
    """Return [B, L], nan where a draw answers nothing."""
    blocks = []
    for weights in image_draws(np.arange(answered.n_images), draws):  # [b, G]
        rows, wrong = weights @ answered.rows, weights @ answered.wrong  # [b, L]
        blocks.append(np.divide(wrong, rows, out=np.full(rows.shape, np.nan), where=rows > 0))
    return np.concatenate(blocks)


def _reach(deviations: np.ndarray, erring: int) -> float:
    """Return the quantile of the largest of `deviations` [B, L], at least that of one level; normal without any."""
    if not deviations.size:
        return float(norm.ppf(_LEVEL_OF_FEW))
    largest = np.nanmax(np.where(np.isfinite(deviations), deviations, -np.inf), axis=1)
    wider = float(student.ppf(BOUND_LEVEL, erring - 1))
    return wider * max(1.0, float(np.quantile(largest, BOUND_LEVEL) / norm.ppf(BOUND_LEVEL)))


def _binomial(error: np.ndarray, worth: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return the upper end of the exact binomial interval for the rate `error` of `worth` answers."""
    wrong = error * worth
    return np.where(wrong < worth, beta.ppf(norm.cdf(reach), wrong + 1, np.maximum(worth - wrong, 1e-9)), 1.0)
