"""Controls: probes of labels that say nothing about the answer, which must not be found.

Legend: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halp_probe.probes.fitting.kinds import Fitter
from halp_probe.probes.fitting.splits import Folds, folds_of, images_on_both_sides, outer_folds
from halp_probe.probes.nested import cross_fit
from halp_probe.probes.training_sets import training_sets

SHUFFLED_LABELS = "shuffled_labels"
RANDOM_BY_IMAGE = "random_label_per_image"
RANDOM_BY_IMAGE_ROWS = "random_label_per_image_split_by_row"
CHANCE = 0.5  # AUROC
_LOOKED_UP = "what a split by row lets a probe look up of an image"


@dataclass(frozen=True, kw_only=True)
class Control:
    """Probe of made-up labels: judge `score` against `y` on these folds, never against the true labels."""

    name: str
    score: np.ndarray  # [N]
    y: np.ndarray  # [N]
    folds: Folds
    expected: float | None  # the AUROC that it must have up to chance; None where any may come out
    note: str


def controls(fit: Fitter, X: np.ndarray, y: np.ndarray, images: np.ndarray, folds: Folds, seed: int) -> list[Control]:
    """Fit probes of one representation `X` [N, D] on labels that cannot be known, split as `folds` is.

    `images` [N] int.

    Random labels per image are the control task of Hewitt & Liang 2019 (arXiv 1909.03368), with the image in the place
    of the word type. Split by image, it cannot be solved; split by row, it shows how much a probe can look up when it
    was trained on other questions about the image.
    """
    mixed, by_image = shuffle_labels(y, seed), random_per_image(y, images, seed)
    if folds.count == 1 or images_on_both_sides(folds, images):  # one split, or a split by row: the same one again
        tasks = [
            (SHUFFLED_LABELS, mixed, folds_of(folds.fold, mixed)),
            (RANDOM_BY_IMAGE_ROWS, by_image, folds_of(folds.fold, by_image)),
        ]
    else:
        tasks = [
            (SHUFFLED_LABELS, mixed, outer_folds(mixed, images, folds.count, seed)),
            (RANDOM_BY_IMAGE, by_image, outer_folds(by_image, images, folds.count, seed)),
            (RANDOM_BY_IMAGE_ROWS, by_image, outer_folds(by_image, None, folds.count, seed)),
        ]
    found = []
    for name, labels, own_folds in tasks:
        sets = training_sets(labels, own_folds)
        score = cross_fit(fit(X, labels, sets.train), labels, own_folds, sets).score
        expected = None if name == RANDOM_BY_IMAGE_ROWS else CHANCE
        meaning = _LOOKED_UP if expected is None else "must be about .5"
        note = "; ".join([f"judged by its own made-up labels: {meaning}", *own_folds.unjudged.values()])
        found.append(Control(name=name, score=score, y=labels, folds=own_folds, expected=expected, note=note))
    return found


def shuffle_labels(y: np.ndarray, seed: int) -> np.ndarray:
    """Return [N], the same labels on random rows."""
    return np.random.default_rng(seed).permutation(y)


def random_per_image(y: np.ndarray, images: np.ndarray, seed: int) -> np.ndarray:
    """Return [N], one random label for all rows of an image.

    It is 1 for as large a share of the images as it has of the rows.
    """
    codes = np.unique(images, return_inverse=True)[1]
    n_images = int(codes.max()) + 1
    ones = min(max(round(y.mean() * n_images), 1), n_images - 1)
    of_image = np.zeros(n_images, dtype=y.dtype)
    of_image[np.random.default_rng(seed).permutation(n_images)[:ones]] = 1
    return of_image[codes]
