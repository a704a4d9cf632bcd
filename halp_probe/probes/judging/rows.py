"""Rows that a score is judged on. Legend: N rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Label, test fold and image of each of N rows, in the order of the scores that are judged on them."""

    y: np.ndarray  # [N] of 0 and 1
    fold: np.ndarray  # [N]: the test fold
    images: np.ndarray  # [N], equal for rows of the same image

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: np.ndarray) -> Rows:
        """Return some of the rows: `index` is a mask [N] or an array of row numbers."""
        return Rows(y=self.y[index], fold=self.fold[index], images=self.images[index])

    @property
    def rarer_images(self) -> int:
        """Number of images that have a row of the label that fewer images have."""
        return min(len(np.unique(self.images[self.y == label])) for label in (0, 1))
