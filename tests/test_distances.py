"""Distances relative to a vector's length, and what has none."""

from __future__ import annotations

import math

import numpy as np

from halp_probe.distances import relative_distance


def test_it_is_the_distance_in_lengths_of_the_second() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 4, 5))
    wanted = [
        [math.dist(x, y) / math.hypot(*y) for x, y in zip(xs, ys, strict=True)] for xs, ys in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(relative_distance(a, b), wanted, rtol=1e-12)
    assert float(relative_distance(a[0, 0], b[0, 0])) == relative_distance(a, b)[0, 0]


def test_what_has_no_length_or_is_no_number() -> None:
    zero, one, nan = np.zeros(2), np.ones(2), np.array([np.nan, 1.0])
    a, b = np.stack([zero, one, zero, nan, one]), np.stack([zero, zero, one, one, nan])
    np.testing.assert_array_equal(relative_distance(a, b), [0, np.inf, 1, np.nan, np.nan])
