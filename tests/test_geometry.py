"""Overlaps equal those of masks that Pillow paints at a high resolution, and have the properties of an IoU."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from halp_probe.tasks.geometry import LINE_REACH, DenseObject, Kind, Point, area, hull, iou, to_pixels

ZOOM = 4  # pixels a thousandth
MARGIN = 20  # thousandths around the image, for lines at its edge


def shape(kind: Kind, *points: Point, image: int = 1) -> DenseObject:
    return DenseObject(image=image, index=1, kind=kind, points=points, desc="x")


def mask(one: DenseObject) -> np.ndarray:
    """[H, W] bool: painted by Pillow; lines as a wide stroke with a disc at each point."""
    side = (1000 + 2 * MARGIN) * ZOOM
    picture = Image.new("1", (side, side))
    canvas = ImageDraw.Draw(picture)
    points = [((x + MARGIN) * ZOOM, (y + MARGIN) * ZOOM) for x, y in one.points]
    if one.kind == "line":
        canvas.line(points, 1, round(2 * LINE_REACH * ZOOM))
        for x, y in points:
            canvas.circle((x, y), LINE_REACH * ZOOM, 1)
    elif one.kind == "bbox_2d":
        canvas.rectangle((*points[0], points[1][0] - 1, points[1][1] - 1), 1)
    else:
        canvas.polygon(points, 1)
    return np.asarray(picture)


def painted_iou(a: DenseObject, b: DenseObject) -> float:
    one, other = mask(a), mask(b)
    return float((one & other).sum() / (one | other).sum())


def random_shape(kind: Kind, rng: random.Random) -> DenseObject:
    """In the middle of the image, large enough that an edge's pixels weigh little."""
    x, y, size = rng.uniform(200, 500), rng.uniform(200, 500), rng.uniform(200, 300)
    if kind == "bbox_2d":
        return shape(kind, (x, y), (x + size, y + rng.uniform(150, 300)))
    if kind == "line":
        return shape(kind, *((x + rng.uniform(0, 300), y + rng.uniform(-60, 60)) for _ in range(rng.randint(2, 5))))
    corners = [(x, y), (x + size, y), (x + size, y + size), (x, y + size)]
    turned = [(cx + rng.uniform(-70, 70), cy + rng.uniform(-70, 70)) for cx, cy in corners]
    return shape(kind, *turned)


@pytest.mark.parametrize("kinds", [("bbox_2d", "bbox_2d"), ("bbox_2d", "quad"), ("quad", "quad"), ("line", "line")])
@pytest.mark.parametrize("seed", range(6))
def test_iou_is_that_of_painted_masks(kinds: tuple[Kind, Kind], seed: int) -> None:
    rng = random.Random(seed)
    a, b = random_shape(kinds[0], rng), random_shape(kinds[1], rng)
    assert iou(a, b) == pytest.approx(painted_iou(a, b), abs=0.01)


@pytest.mark.parametrize(
    "corners",
    [
        ((100, 100), (500, 500), (500, 100), (100, 500)),  # crossing: two triangles
        ((100, 100), (600, 300), (100, 500), (300, 300)),  # concave: an arrowhead
        ((100, 500), (300, 300), (100, 100), (600, 300)),  # the same the other way round
        ((100, 100), (100, 100), (500, 100), (300, 500)),  # a triangle
    ],
)
def test_quads_that_are_not_convex_cover_what_pillow_paints(corners: tuple[Point, ...]) -> None:
    quad = shape("quad", *corners)
    assert area(corners) == pytest.approx(mask(quad).sum() / ZOOM**2, rel=0.01)
    for other in (shape("bbox_2d", (50, 200), (400, 700)), shape("quad", (90, 90), (520, 130), (480, 510), (80, 480))):
        assert iou(quad, other) == pytest.approx(painted_iou(quad, other), abs=0.01)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (((0, 0), (10, 10)), ((5, 0), (15, 10)), 1 / 3),
        (((0, 0), (10, 10)), ((0, 0), (10, 5)), 0.5),
        (((0, 0), (1000, 1000)), ((250, 250), (750, 750)), 0.25),
        (((0, 0), (10, 10)), ((10, 0), (20, 10)), 0.0),
        (((0, 0), (10, 10)), ((11, 11), (20, 20)), 0.0),
    ],
)
def test_iou_of_boxes_is_exact_also_when_written_as_quads(
    a: tuple[Point, Point], b: tuple[Point, Point], expected: float
) -> None:
    one, other = shape("bbox_2d", *a), shape("bbox_2d", *b)
    assert iou(one, other) == expected
    assert iou(as_quad(one), other) == pytest.approx(expected, abs=1e-12)
    assert iou(as_quad(one), as_quad(other)) == pytest.approx(expected, abs=1e-12)


def as_quad(box: DenseObject) -> DenseObject:
    (left, top), (right, bottom) = box.points
    return shape("quad", (right, top), (right, bottom), (left, bottom), (left, top))


@pytest.mark.parametrize("apart", [0.5, 6.0, 15.0])
def test_parallel_lines_overlap_as_their_strips_and_discs_do(apart: float) -> None:
    reach, length = LINE_REACH, 600.0
    lens = 2 * reach**2 * np.arccos(apart / 2 / reach) - apart / 2 * np.sqrt(4 * reach**2 - apart**2)
    shared = (2 * reach - apart) * length + lens
    each = 2 * reach * length + np.pi * reach**2
    a, b = shape("line", (200, 500), (800, 500)), shape("line", *((x, 500 + apart) for x in (200, 500, 800)))
    assert iou(a, b) == pytest.approx(shared / (2 * each - shared), abs=0.0002)


def test_a_line_is_the_same_the_other_way_round_and_with_points_added() -> None:
    points = ((100, 100), (500, 300), (300, 700))
    more = ((100, 100), (300, 200), (500, 300), (500, 300), (300, 700))
    for other in (points[::-1], more):
        assert iou(shape("line", *points), shape("line", *other)) == pytest.approx(1, abs=1e-9)


_NUMBER = st.integers(0, 4000).map(lambda quarters: quarters / 4)
_POINT = st.tuples(_NUMBER, _NUMBER)


@st.composite
def shapes(draw: st.DrawFn) -> DenseObject:
    kind: Kind = draw(st.sampled_from(["bbox_2d", "quad", "line"]))
    count = {"bbox_2d": 2, "quad": 4, "line": draw(st.integers(2, 4))}[kind]
    points = tuple(draw(st.lists(_POINT, min_size=count, max_size=count)))
    if kind == "bbox_2d":
        left, top, right, bottom = hull(points)
        assume(left < right and top < bottom)
        points = ((left, top), (right, bottom))
    assume(kind != "quad" or area(points) > 1)
    assume(kind != "line" or len(set(points)) > 1)
    return shape(kind, *points)


def exact_area(quad: Sequence[Point]) -> float:
    """The even-odd area in fractions: two triangles where two edges cross, else the shoelace formula."""
    corners = [tuple(map(Fraction, point)) for point in quad]
    for p, q, r, s in (corners, corners[1:] + corners[:1]):
        (ax, ay), (bx, by) = (q[0] - p[0], q[1] - p[1]), (s[0] - r[0], s[1] - r[1])
        across = ax * by - ay * bx
        if across:
            along = ((r[0] - p[0]) * by - (r[1] - p[1]) * bx) / across
            beside = ((r[0] - p[0]) * ay - (r[1] - p[1]) * ax) / across
            if 0 < along < 1 and 0 < beside < 1:
                met = (p[0] + along * ax, p[1] + along * ay)
                return float(shoelace([met, q, r]) + shoelace([met, s, p]))
    return float(shoelace(corners))


def shoelace(corners: Sequence[tuple[Fraction, ...]]) -> Fraction:
    pairs = zip(corners, [*corners[1:], corners[0]], strict=True)
    return abs(sum((ax * by - ay * bx for (ax, ay), (bx, by) in pairs), Fraction(0))) / 2


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=4), st.integers(1, 160))
def test_area_of_any_quad_is_that_of_exact_arithmetic(corners: list[tuple[int, int]], scale: int) -> None:
    """On a coarse grid, where edges cross, touch, lie on each other and corners coincide."""
    points = [(x * scale, y * scale) for x, y in corners]
    assert area(points) == pytest.approx(exact_area(points), abs=1e-9)


@given(shapes(), shapes())
def test_iou_is_symmetric_between_0_and_1_and_1_for_itself(a: DenseObject, b: DenseObject) -> None:
    assert iou(a, b) == pytest.approx(iou(b, a), abs=1e-9)
    assert 0 <= iou(a, b) <= 1
    assert iou(a, a) == pytest.approx(1, abs=1e-9)


@given(shapes(), shapes(), st.integers(-500, 500), st.integers(-500, 500))
def test_iou_does_not_change_when_both_move(a: DenseObject, b: DenseObject, right: int, down: int) -> None:
    assert iou(moved(a, right, down), moved(b, right, down)) == pytest.approx(iou(a, b), abs=1e-6)


@given(shapes(), shapes())
def test_iou_of_what_lies_apart_is_0(a: DenseObject, b: DenseObject) -> None:
    assert iou(a, moved(b, 1000 + 2 * LINE_REACH, 0)) == 0
    assert iou(a, shape(b.kind, *b.points, image=2)) == 0


@given(shapes(), shapes())
def test_regions_and_lines_do_not_match(a: DenseObject, b: DenseObject) -> None:
    assume((a.kind == "line") != (b.kind == "line"))
    assert iou(a, b) == 0


@given(shapes(), shapes(), st.integers(1, 5000), st.integers(1, 5000))
def test_iou_of_regions_is_the_same_in_pixels(a: DenseObject, b: DenseObject, width: int, height: int) -> None:
    assume("line" not in (a.kind, b.kind))
    scaled = [shape(one.kind, *((x * width, y * height) for x, y in one.points)) for one in (a, b)]
    assert iou(*scaled) == pytest.approx(iou(a, b), abs=1e-9)


def moved(one: DenseObject, right: float, down: float) -> DenseObject:
    return shape(one.kind, *((x + right, y + down) for x, y in one.points))


def test_pixels_run_from_edge_to_edge() -> None:
    assert to_pixels([(0, 0), (1000, 1000), (500, 333)], 640, 481) == ((0, 0), (640, 481), (320, 160.17))
