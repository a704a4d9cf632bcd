"""Distances of vectors, relative to the length of the reference."""

from __future__ import annotations

import numpy as np


def relative_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return |a - b| / |b| of vectors along the last axis: [..., D] to [...].

    0 where both are the same, inf where only b is zero, nan where a value is nan.
    """
    distance, length = (np.asarray(np.linalg.norm(vectors, axis=-1)) for vectors in (a - b, b))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distance == 0, 0.0, distance / length)
