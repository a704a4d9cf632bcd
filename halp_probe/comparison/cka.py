"""Linear centred kernel alignment (CKA) of two representations of the same rows, without its bias. No files.

CKA (Kornblith and others 2019, arXiv 1905.00414) is 1 for representations that agree up to rotation, shift and one
scale, and 0 for ones without a linear relation. The plain estimate rises with D/N: it is near 1 for any two random
matrices with D >> N. So HSIC is estimated here without bias (Song and others 2012, JMLR 13:1393, equation 5; Nguyen and
others 2021, arXiv 2010.15327, for CKA), at any N: it needs no threshold for "few rows", and agrees with the plain one
for many. It can come out slightly below 0.

That estimate takes rows for independent. Rows of one image are not: a vision mean is the same vector for all questions
on an image, and pairs of its rows would bring the bias back. So every estimate is made on one row an image, chosen at
random, and averaged over several such choices.

Legend: N rows, n rows of one choice (one an image), D width of A, E width of B.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

LEAST_IMAGES = 4  # below, the unbiased estimate is not defined
MOST_CHOICES = 8
_TILE_VALUES = 4_000_000  # float64 values of one block in memory: 32 MB


@dataclass(frozen=True)
class Alignment:
    """CKA of two representations; `value` is nan where it cannot be known, and then `reason` says why."""

    value: float
    reason: str = ""


def linear_cka(a: np.ndarray, b: np.ndarray, images: np.ndarray, seed: int = 0) -> Alignment:
    """Compute the CKA of `a` [N, D] and `b` [N, E], finite; exactly 1 for a = b.

    `images` [N] is equal for rows of the same image.
    """
    n_images = len(np.unique(images))
    if n_images < LEAST_IMAGES:
        return Alignment(np.nan, f"CKA needs {LEAST_IMAGES} images, here are {n_images}")
    for side, vectors in (("A", a), ("B", b)):
        if (vectors == vectors[0]).all():
            return Alignment(np.nan, f"no CKA: all rows of {side} are the same vector")
    if a.shape == b.shape and np.array_equal(a, b):
        return Alignment(1.0)
    choices = one_row_an_image(images, seed)
    if all(np.array_equal(each[rows], each[choices[0]]) for rows in choices[1:] for each in (a, b)):
        choices = choices[:1]  # states of the image alone: every choice gives the same
    both, of_a, of_b = np.sum([hsic(a[rows], b[rows]) for rows in choices], axis=0)
    if not (of_a > 0 and of_b > 0):
        return Alignment(np.nan, "no CKA: the chosen rows do not vary")
    return Alignment(float(both / np.sqrt(of_a * of_b)))


def one_row_an_image(images: np.ndarray, seed: int) -> list[np.ndarray]:
    """Choose one row of each image, [n] a choice: no row twice before every row of its image was chosen."""
    rng = np.random.default_rng(seed)
    codes = np.unique(images, return_inverse=True)[1]
    of_image = [rng.permutation(np.flatnonzero(codes == code)) for code in range(int(codes.max()) + 1)]
    count = min(MOST_CHOICES, max(map(len, of_image)))
    return [np.sort([rows[k % len(rows)] for rows in of_image]) for k in range(count)]


def hsic(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Estimate HSIC of the linear kernels of (a, b), (a, a), (b, b) without bias, for `a` [n, D], `b` [n, E], n >= 4.

    For centred rows, Song's estimate is a sum over the kernels' products less what the diagonals bring.
    """
    n = len(a)
    x, y = _CentredVectors.of(a), _CentredVectors.of(b)
    p, q = x.squared_lengths(), y.squared_lengths()  # [n] each
    sums = _by_gram(x, y) if n < x.width + y.width else _by_features(x, y)  # whichever multiplies less
    scale = 1 / (n * (n - 3))
    both, of_a, of_b = (
        float(scale * (total - n / (n - 2) * (u @ v) + u.sum() * v.sum() / ((n - 1) * (n - 2))))
        for total, u, v in zip(sums, (p, p, q), (q, p, q), strict=True)
    )
    return both, of_a, of_b


@dataclass(frozen=True)
class _CentredVectors:
    """Vectors [n, D] less their mean over rows, made block by block in float64, so that no whole second copy exists."""

    vectors: np.ndarray  # [n, D]
    mean: np.ndarray  # [D] float64

    @staticmethod
    def of(vectors: np.ndarray) -> _CentredVectors:
        return _CentredVectors(vectors, vectors.mean(axis=0, dtype=np.float64))

    @property
    def width(self) -> int:
        return self.vectors.shape[1]

    def rows(self, rows: slice) -> np.ndarray:
        return self.vectors[rows].astype(np.float64) - self.mean

    def columns(self, columns: slice) -> np.ndarray:
        return self.vectors[:, columns].astype(np.float64) - self.mean[columns]

    def squared_lengths(self) -> np.ndarray:
        """Return [n], the squared length of each row."""
        parts = [(self.rows(rows) ** 2).sum(axis=1) for rows in _tiles(len(self.vectors), self.width)]
        return np.concatenate(parts)


def _by_gram(x: _CentredVectors, y: _CentredVectors) -> tuple[float, float, float]:
    """Return the sums of K∘L, K∘K, L∘L over all pairs of rows, K = x xᵀ and L = y yᵀ [n, n]."""
    tiles = list(_tiles(len(x.vectors), max(x.width, y.width)))
    sums = np.zeros(3)
    for number, rows in enumerate(tiles):
        x_rows, y_rows = x.rows(rows), y.rows(rows)
        for others in tiles[: number + 1]:
            k, l_ = x_rows @ x.rows(others).T, y_rows @ y.rows(others).T
            sums += _times(rows, others) * np.array([(k * l_).sum(), (k * k).sum(), (l_ * l_).sum()])
    return float(sums[0]), float(sums[1]), float(sums[2])


def _by_features(x: _CentredVectors, y: _CentredVectors) -> tuple[float, float, float]:
    """Return the same sums as |xᵀy|², |xᵀx|², |yᵀy|²."""
    n = len(x.vectors)
    x_tiles, y_tiles = list(_tiles(x.width, n)), list(_tiles(y.width, n))
    between = sum(_square_norm(x.columns(own), y.columns(other)) for own in x_tiles for other in y_tiles)
    return between, _within(x, x_tiles), _within(y, y_tiles)


def _within(x: _CentredVectors, tiles: Sequence[slice]) -> float:
    """Return |xᵀx|²."""
    return sum(
        _times(own, other) * _square_norm(x.columns(own), x.columns(other))
        for number, own in enumerate(tiles)
        for other in tiles[: number + 1]
    )


def _square_norm(first: np.ndarray, second: np.ndarray) -> float:
    return float(((first.T @ second) ** 2).sum())


def _times(own: slice, other: slice) -> int:
    """Count a pair of different tiles twice, since it stands for its mirror image too."""
    return 1 if own == other else 2


def _tiles(count: int, other: int) -> Iterator[slice]:
    """Cut `count` so that each part with `other` is a block of bounded size."""
    step = max(1, _TILE_VALUES // max(1, other))
    return (slice(begin, begin + step) for begin in range(0, count, step))
