"""Boxes, quads and lines on an image: pixels, hulls, and the overlap (IoU) of two. Coordinates 0 to 1000.

0 is the image's left or top edge, 1000 its right or bottom edge, whatever its size. An IoU compares the areas that two
shapes cover in these units; for boxes and quads it is exact and the same in pixels.

- A box covers its inside. A quad covers what lies within its four edges in the order given, by the even-odd rule: a
  quad whose edges cross covers two triangles, a concave one its concave area.
- A line covers a tube: all points within LINE_REACH of it, with round ends. Its round parts are polygons, so that an
  IoU of two lines is within 0.001 of the true one.
- Boxes and quads are regions and are compared with each other; a region and a line never overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import shapely
from shapely import LineString, MultiPolygon, Polygon

Kind = Literal["bbox_2d", "quad", "line"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FULL = 1000  # the right and the bottom edge
LINE_REACH = 8.0  # thousandths
_ROUNDNESS = 64  # sides of a polygon for each quarter of a circle: 0.01 % of its area is lost

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class DenseObject:
    """Described object.

    `image` and `index` count from 1. A box has two points, a quad four, a line two or more.
    """

    image: int
    index: int
    kind: Kind
    points: tuple[Point, ...]  # thousandths of the image's width and height
    desc: str


def to_pixels(points: Sequence[Point], width: int, height: int) -> tuple[Point, ...]:
    """Return x · width / 1000 and y · height / 1000, to a hundredth of a pixel.

    0 and `width` are the image's edges.
    """
    return tuple((round(x * width / FULL, 2), round(y * height / FULL, 2)) for x, y in points)


def hull(points: Sequence[Point]) -> tuple[float, float, float, float]:
    """Return the smallest box around the points: left, top, right, bottom."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def area(points: Sequence[Point]) -> float:
    """Return the area of a polygon by the even-odd rule."""
    return float(_polygon(points).area)


def iou(a: DenseObject, b: DenseObject) -> float:
    """Return the area that both cover divided by the area of their union: 0 to 1, symmetric; 0 on different images."""
    if a.image != b.image or (a.kind == "line") != (b.kind == "line"):
        return 0.0
    reach = LINE_REACH if a.kind == "line" else 0.0
    if _apart(hull(a.points), hull(b.points), 2 * reach):
        return 0.0
    one, other = _region(a.kind, a.points), _region(b.kind, b.points)
    shared = float(one.intersection(other).area)
    either = float(one.area) + float(other.area) - shared
    return min(1.0, max(0.0, shared / either)) if either > 0 else 0.0


def _apart(a: tuple[float, ...], b: tuple[float, ...], gap: float) -> bool:
    return max(a[0], b[0]) >= min(a[2], b[2]) + gap or max(a[1], b[1]) >= min(a[3], b[3]) + gap


@lru_cache(2**14)  # a reply is matched several times, and each of its objects with many others
def _region(kind: Kind, points: tuple[Point, ...]) -> Polygon | MultiPolygon:
    """Return the region that an object covers."""
    if kind == "line":
        return LineString(points).buffer(LINE_REACH, quad_segs=_ROUNDNESS)
    return shapely.box(*hull(points)) if kind == "bbox_2d" else _polygon(points)


def _polygon(points: Sequence[Point]) -> Polygon | MultiPolygon:
    """Return the area within the edges by the even-odd rule, without the lines that corners on one line leave."""
    parts = shapely.get_parts(shapely.make_valid(Polygon(points)))
    return MultiPolygon([part for part in parts if isinstance(part, Polygon)])
