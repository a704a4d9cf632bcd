"""Threshold whose error rate holds on new questions, however many an image has and however they hang together.

Legend: N rows, G images, L candidate thresholds, S stakes.
"""

from __future__ import annotations

import numpy as np

from halp_probe.probes.errors import ProbeError
from halp_probe.probes.judging.error_bounds import Answered
from halp_probe.probes.judging.thresholds import Threshold
from halp_probe.scoring.candidates import candidates, check_promise

_ORDERING = 4  # one in this many images decides the order in which candidates are tested, and the stakes
_STAKES = np.geomspace(0.01, 0.95, 10)  # of the largest that cannot lose more than all


def threshold_per_question(
    risk: np.ndarray, y: np.ndarray, images: np.ndarray, *, max_error: float, confidence: float = 0.9, seed: int = 0
) -> Threshold:
    """Return the threshold that answers most among those shown to have an error rate of at most `max_error`.

    `risk` [N], `y` [N] of 0 and 1, `images` [N] equal for rows of one image. With probability `confidence` over the
    draw of these images, at most `max_error` of all questions that are answered on new images are answered wrongly,
    each question counting as one. Images are what is drawn: their rows may be as alike as they like, and harder where
    there are more of them. It is assumed that no image has more questions than the one here that has most.

    With W wrong of A answered rows, an image scores Z = W − max_error · A. Were the error rate above `max_error`, its
    mean would be at least 0, and a gambler who stakes a share of his money against Z on each image would not get richer
    on average; he multiplies it by 1 / (1 − `confidence`) with at most that chance (Ville 1939; Waudby-Smith & Ramdas
    2023, arXiv 2010.09686). Candidates are tested in an order found on a quarter of the images, until one fails.

    Raises ProbeError, saying how many images would do, when none passes.
    """
    check_promise(max_error, confidence)
    levels = candidates(max_error)
    answered = Answered.at(levels, risk, y, images)
    order = np.random.default_rng(seed).permutation(answered.n_images)
    ordering, testing = np.split(order, [len(order) // _ORDERING])
    if not len(ordering):
        raise ProbeError(f"{len(order)} images are too few for a threshold per question; label more images")
    score = answered.wrong - max_error * answered.rows  # [G, L]
    most = (1 - max_error) * float(answered.rows[:, -1].max())  # the last candidate answers everything
    stakes = _STAKES / most
    growth = _growth(score[ordering], stakes)  # [S, L]
    sequence = np.argsort(-growth.max(axis=0), kind="stable")
    wealth = _wealth(score[testing], stakes, growth.argmax(axis=0))  # [L] logarithm
    passed = wealth[sequence] >= -np.log(1 - confidence)
    shown = sequence[: len(passed) if passed.all() else int(np.argmin(passed))]
    shown = shown[answered.rows[testing][:, shown].sum(axis=0) > 0]
    if not len(shown):
        raise ProbeError(_refusal(score, stakes, y, max_error, confidence))
    level = int(shown.max())
    rows, wrong = answered.rows[testing, level].sum(), answered.wrong[testing, level].sum()
    total = int(answered.rows[testing, -1].sum())
    return Threshold(
        risk=float(levels[level]),
        coverage=float(rows / total),
        error=float(wrong / rows),
        rows=total,
        max_error=max_error,
        confidence=confidence,
        per="question",
    )


def _growth(score: np.ndarray, stakes: np.ndarray) -> np.ndarray:
    """Return [S, L], the mean logarithm by which money grows on an image; `score` [G, L]."""
    return np.stack([np.log1p(-stake * score).mean(axis=0) for stake in stakes])


def _wealth(score: np.ndarray, stakes: np.ndarray, favourite: np.ndarray) -> np.ndarray:
    """Return [L], the logarithm of the money in the end: half was put on the `favourite` stake [L], half on all."""
    each = _growth(score, stakes) * len(score)  # [S, L]
    share = np.full(each.shape, 0.5 / len(stakes))
    share[favourite, np.arange(len(favourite))] += 0.5
    top = each.max(axis=0)
    return top + np.log((share * np.exp(each - top)).sum(axis=0))


def _refusal(score: np.ndarray, stakes: np.ndarray, y: np.ndarray, max_error: float, confidence: float) -> str:
    growth = float(_growth(score, stakes).max())
    needed = (np.log(2) - np.log(1 - confidence)) / growth * _ORDERING / (_ORDERING - 1) if growth > 0 else np.inf
    if np.isinf(needed):
        remedy = "more images like these would not do; allow a higher error"
    else:
        about = max(int(np.ceil(needed / 10) * 10), len(score) + 10)
        remedy = f"about {about} images like these would do, or a higher error"
    return (
        f"no threshold keeps the error rate at {max_error:g} per question with confidence {confidence:g} on "
        f"{len(score)} images ({y.mean():.3f} of their answers are wrong); {remedy}"
    )
