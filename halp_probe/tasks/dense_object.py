"""Objects of a dense caption: exactly one geometry and a description each; faults of an object in words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from halp_probe.tasks.geometry import FULL, KINDS, DenseObject, Kind, Point, area

_NAMES = (*KINDS, "line_points", "desc")
FRACTIONS = "holds fractions of 1"  # how the fault of such a place begins
_LENGTHS = {"bbox_2d": 4, "quad": 8}
_NOTHING = 1e-6  # an area below this is rounding error of corners on one line
_HALF = re.compile("[\ud800-\udfff]")  # half a surrogate pair, which is not a character

Members = Sequence[tuple[str, Any]]


def faults(members: Any, *, right: float = FULL, bottom: float = FULL, line_points: bool = True) -> Iterator[str]:
    """Yield all that is wrong with an object's JSON, given as pairs so that a repeated name shows.

    Coordinates lie between 0 and `right`, or `bottom`; without `line_points` a line may leave them out.
    """
    if not isinstance(members, tuple):
        yield "is no JSON object"
        return
    names = [name for name, _ in members]
    yield from (f"has {_quote(name)} twice" for name in sorted({name for name in names if names.count(name) > 1}))
    yield from (f"has {_quote(name)}, which is not known" for name in names if name not in _NAMES)
    of = dict(members)
    if "desc" not in of:
        yield "has no description"
    elif not isinstance(of["desc"], str) or not of["desc"].strip() or _HALF.search(of["desc"]):
        yield "has a blank description, or one that is no text"
    kinds = [kind for kind in KINDS if kind in of]
    if len(kinds) != 1:
        yield f"has {' and '.join(kinds)}: which one is meant?" if kinds else f"has none of {', '.join(KINDS)}"
    if "line_points" in of and "line" not in of:
        yield "has line_points without a line"
    for kind in kinds:
        yield from (f"{kind} {fault}" for fault in _geometry_faults(kind, of[kind], right, bottom))
    if "line" in of and ("line_points" in of or line_points):
        yield from _count_faults(of["line"], of.get("line_points"))


def in_other_units(members: Any) -> bool:
    """Tell whether an object's place seems to be no thousandths: fractions of 1, or beyond 1000 as pixels are."""
    if not isinstance(members, tuple):
        return False
    places = [value for name, value in members if name in KINDS and isinstance(value, list)]
    numbers = [number for place in places for number in place if _is_number(number)]
    return bool(numbers) and (max(numbers) > FULL or max(numbers) <= 1)


def with_description(members: Any) -> Any:
    """Return the members with `label`, as Qwen's own lists call the description, as `desc`, unless both are there."""
    if not isinstance(members, tuple) or "desc" in dict(members):
        return members
    return tuple(("desc" if name == "label" else name, value) for name, value in members)


def make_object(image: int, index: int, members: Members) -> DenseObject:
    """Make an object from members without faults."""
    of = dict(members)
    kind = next(kind for kind in KINDS if kind in of)
    return DenseObject(image=image, index=index, kind=kind, points=_pairs(of[kind]), desc=of["desc"])


def _pairs(numbers: Sequence[float]) -> tuple[Point, ...]:
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _geometry_faults(kind: Kind, numbers: Any, right: float, bottom: float) -> Iterator[str]:
    if not isinstance(numbers, list):
        yield "is no list"
        return
    strange = [number for number in numbers if not _is_number(number)]
    if strange:
        yield f"holds {_type_name(strange[0])} where a number is due"
    length = _LENGTHS.get(kind)
    if length and len(numbers) != length:
        yield f"holds {len(numbers)} numbers, not {length}"
    elif not length and (len(numbers) < 4 or len(numbers) % 2):
        yield f"holds {len(numbers)} numbers, not an even count of 4 or more"
    elif not strange:
        yield from _coordinate_faults(kind, numbers, right, bottom)


def _coordinate_faults(kind: Kind, numbers: list[float], right: float, bottom: float) -> Iterator[str]:
    if not all(map(math.isfinite, numbers)):
        yield "holds a number that is not finite"
        return
    for number, most in zip(numbers, [right, bottom] * (len(numbers) // 2), strict=True):
        if not 0 <= number <= most:
            yield f"holds {number:g}, which is not between 0 and {most:g}"
            return
    if max(numbers) <= 1:
        yield f"{FRACTIONS}, where 0 to {right:g} is due"
        return
    points = _pairs(numbers)
    if kind == "bbox_2d" and not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
        yield "has a corner that is not left of and above the other"
    if kind == "quad" and area(points) < _NOTHING:
        yield "encloses nothing"
    if kind == "line" and all(a == b for a, b in pairwise(points)):
        yield "has no length"


def _count_faults(line: Any, count: Any) -> Iterator[str]:
    if count is None:
        yield "has a line without line_points"
    elif isinstance(count, bool) or not isinstance(count, int):
        yield "has line_points that are no whole number"
    elif isinstance(line, list) and len(line) != 2 * count:
        yield f"has {len(line)} numbers in its line, but line_points {count}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _quote(name: str) -> str:
    return repr(name if len(name) <= 40 else name[:40] + "…")


def _type_name(value: Any) -> str:
    kinds = {bool: "true or false", str: "a text", list: "a list", tuple: "an object", type(None): "null"}
    return kinds[type(value)]
