"""Limits of a bootstrap of fixed scores: the spread of cross-fitted models, and too few images.

Legend: N rows, K folds.
"""

from __future__ import annotations

import numpy as np

from halp_probe.probes.judging.rows import Rows

MOST_SPREAD = float(np.sqrt(2))  # `refit_spread` where there is no signal at all
LEAST_RARER_IMAGES = 8  # below either of these, intervals held the truth in fewer than 92 % of simulations
LEAST_IMAGES_A_FOLD = 6


def refit_spread(scores: np.ndarray, y: np.ndarray) -> float:
    """Return how much wider the interval of K cross-fitted models is than that of fixed scores, from 1 to √2.

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


def too_narrow(rows: Rows, folds: int) -> str:
    """Say why the intervals of these rows in `folds` folds cannot be trusted; "" when they can.

    With few images in a fold, pairs of rows of the *same* image weigh so much that the AUROC itself is off.
    """
    having = [len(np.unique(rows.images[rows.y == label])) for label in (0, 1)]
    n_images = len(np.unique(rows.images))
    if min(having) < LEAST_RARER_IMAGES:
        return f"only {min(having)} images have label {int(np.argmin(having))}: the intervals are too narrow"
    if n_images < LEAST_IMAGES_A_FOLD * folds:
        return f"only {n_images} images for {folds} folds: the intervals are too narrow"
    return ""
