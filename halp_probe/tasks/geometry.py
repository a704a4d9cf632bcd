"""Boxes, four corners and lines on an image: pixels, hulls, and the overlap (IoU) of two. Coordinates 0 to 1000.

0 is the image's left or top edge, 1000 its right or bottom edge, whatever its size. An IoU compares what two shapes
cover there; of boxes and quads it is exact and the same in pixels.

- A box covers its inside. A quad covers what lies within its four edges in the order given, by the even-odd rule: a
  quad whose edges cross covers two triangles, a concave one its concave area.
- A line covers all points within LINE_REACH of it (round ends), a tube. Its area is summed over strips of STRIP
  thousandths, which is within 0.01 of the true IoU.
- Boxes and quads are regions and compared with each other; a region and a line never overlap.

Legend: R strips, E edges or segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, combinations, pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Kind = Literal["bbox_2d", "quad", "line"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FULL = 1000  # the right and the bottom edge
LINE_REACH = 8.0  # thousandths
STRIP = 0.5  # thousandths

Point = tuple[float, float]
_Array = NDArray[np.float64]


@dataclass(frozen=True)
class DenseObject:
    """One described object. `image` and `index` count from 1; a box has two points, a quad four, a line two or more."""

    image: int
    index: int
    kind: Kind
    points: tuple[Point, ...]  # thousandths of the image's width and height
    desc: str


def to_pixels(points: Sequence[Point], width: int, height: int) -> tuple[Point, ...]:
    """x · width / 1000 and y · height / 1000, to a hundredth of a pixel; 0 and `width` are the image's edges."""
    return tuple((round(x * width / FULL, 2), round(y * height / FULL, 2)) for x, y in points)


def hull(points: Sequence[Point]) -> tuple[float, float, float, float]:
    """The smallest box around the points: left, top, right, bottom."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def area(points: Sequence[Point]) -> float:
    """What a polygon covers by the even-odd rule."""
    return float(_covered([points])[0])


def iou(a: DenseObject, b: DenseObject) -> float:
    """What both cover, over what either covers: 0 to 1, symmetric. 0 on different images."""
    if a.image != b.image or (a.kind == "line") != (b.kind == "line"):
        return 0.0
    reach = LINE_REACH if a.kind == "line" else 0.0
    if _apart(hull(a.points), hull(b.points), 2 * reach):
        return 0.0
    if a.kind == b.kind == "bbox_2d":
        one, other, either = _boxes(hull(a.points), hull(b.points))
    else:
        one, other, either = _areas(a.kind, a.points, b.kind, b.points)
    return min(1.0, max(0.0, float((one + other - either) / either))) if either > 0 else 0.0


def _apart(a: tuple[float, ...], b: tuple[float, ...], gap: float) -> bool:
    return max(a[0], b[0]) >= min(a[2], b[2]) + gap or max(a[1], b[1]) >= min(a[3], b[3]) + gap


@lru_cache(2**14)  # models that loop say one object a hundred times, and each reply is matched several times
def _areas(a_kind: Kind, a: tuple[Point, ...], b_kind: Kind, b: tuple[Point, ...]) -> tuple[float, float, float]:
    """Of each, and of either: two lines, or two regions."""
    if a_kind == "line":
        return _tubes(a, b)
    one, other, either = _covered([_corners(a_kind, a), _corners(b_kind, b)])
    return one, other, either


def _corners(kind: Kind, points: Sequence[Point]) -> Sequence[Point]:
    if kind != "bbox_2d":
        return points
    left, top, right, bottom = hull(points)
    return (left, top), (right, top), (right, bottom), (left, bottom)


def _boxes(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, float, float]:
    """Area of each, and of either, for boxes that overlap."""
    one, other = ((right - left) * (bottom - top) for left, top, right, bottom in (a, b))
    shared = (min(a[2], b[2]) - max(a[0], b[0])) * (min(a[3], b[3]) - max(a[1], b[1]))
    return one, other, one + other - shared


def _covered(polygons: Sequence[Sequence[Point]]) -> list[float]:
    """The area of each polygon, and last of either.

    Between two neighbouring heights of corners and crossings all edges are straight and none cross, so widths change
    linearly there, and the width in the middle times the height is the area.
    """
    edges = [list(pairwise([*polygon, polygon[0]])) for polygon in polygons]
    heights = {y for edge in chain.from_iterable(edges) for _, y in edge}
    heights.update(y for one, other in combinations(chain.from_iterable(edges), 2) for y in _crossing(one, other))
    ys = np.array(sorted(heights))
    middles, thickness = (ys[1:] + ys[:-1]) / 2, np.diff(ys)
    spans = [np.array([_inside(one, y) for y in middles]).reshape(len(middles), len(one) // 2, 2) for one in edges]
    return [float(_widths(span) @ thickness) for span in (*spans, np.concatenate(spans, axis=1))]


def _crossing(one: tuple[Point, Point], other: tuple[Point, Point]) -> list[float]:
    """The height at which two edges cross, if they do."""
    (ax, ay), (bx, by) = one
    (cx, cy), (dx, dy) = other
    across = (bx - ax) * (dy - cy) - (by - ay) * (dx - cx)
    if across == 0:  # parallel
        return []
    along = ((cx - ax) * (dy - cy) - (cy - ay) * (dx - cx)) / across
    beside = ((cx - ax) * (by - ay) - (cy - ay) * (bx - ax)) / across
    return [ay + along * (by - ay)] if 0 <= along <= 1 and 0 <= beside <= 1 else []


def _inside(edges: Sequence[tuple[Point, Point]], y: float) -> list[tuple[float, float]]:
    """From where to where the polygon lies at a height that no corner has; as many pairs as could be at most."""
    crossed = sorted(ax + (y - ay) / (by - ay) * (bx - ax) for (ax, ay), (bx, by) in edges if (ay < y) != (by < y))
    crossed += [0.0] * (2 * (len(edges) // 2) - len(crossed))
    return list(zip(crossed[::2], crossed[1::2], strict=True))


def _tubes(a: Sequence[Point], b: Sequence[Point]) -> tuple[float, float, float]:
    """Area of each tube, and of either."""
    top, bottom = (pick(y for _, y in (*a, *b)) for pick in (min, max))
    middles = np.arange(top - LINE_REACH + STRIP / 2, bottom + LINE_REACH, STRIP)
    spans = [_tube(line, middles) for line in (a, b)]
    one, other, either = (float(_widths(span).sum()) for span in (*spans, np.concatenate(spans, axis=1)))
    return one, other, either


def _tube(line: Sequence[Point], ys: _Array) -> _Array:
    """From where to where each segment's tube lies at each height: [R, E, 2]; an empty span where it does not.

    A tube around a segment is its two discs and the rectangle between them; at one height each is a span, and together
    they are one.
    """
    spans = []
    for (ax, ay), (bx, by) in pairwise(line):
        parts = [_disc(ax, ay, ys), _disc(bx, by, ys)]
        length = np.hypot(bx - ax, by - ay)
        if length > 0:
            nx, ny = (by - ay) / length * LINE_REACH, (ax - bx) / length * LINE_REACH
            rectangle = [(ax + nx, ay + ny), (bx + nx, by + ny), (bx - nx, by - ny), (ax - nx, ay - ny)]
            parts.append(_convex(rectangle, ys))
        low, high = np.min([low for low, _ in parts], axis=0), np.max([high for _, high in parts], axis=0)
        spans.append(np.stack([np.where(high > low, low, 0.0), np.where(high > low, high, 0.0)], axis=1))
    return np.stack(spans, axis=1)


def _disc(x: float, y: float, ys: _Array) -> tuple[_Array, _Array]:
    squared = LINE_REACH**2 - (ys - y) ** 2
    half = np.where(squared > 0, np.sqrt(np.maximum(squared, 0)), -np.inf)
    return x - half, x + half


def _convex(corners: Sequence[Point], ys: _Array) -> tuple[_Array, _Array]:
    low, high = np.full_like(ys, np.inf), np.full_like(ys, -np.inf)
    for (ax, ay), (bx, by) in pairwise([*corners, corners[0]]):
        met = (ay < ys) != (by < ys)
        x = ax + (ys[met] - ay) / (by - ay) * (bx - ax) if met.any() else ys[met]
        low[met], high[met] = np.minimum(low[met], x), np.maximum(high[met], x)
    return low, high


def _widths(spans: _Array) -> _Array:
    """How much the spans of each strip cover together: [R, S, 2] to [R]."""
    order = np.argsort(spans[..., 0], axis=1)
    low = np.take_along_axis(spans[..., 0], order, axis=1)
    high = np.take_along_axis(spans[..., 1], order, axis=1)
    reached = np.maximum.accumulate(high, axis=1)
    before = np.concatenate([np.full_like(reached[:, :1], -np.inf), reached[:, :-1]], axis=1)
    widths: _Array = np.maximum(0.0, high - np.maximum(low, before)).sum(axis=1)
    return widths
