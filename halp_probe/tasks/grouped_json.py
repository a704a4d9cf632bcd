"""Objects as JSON, by image: {"图片_1": {"object_1": {"bbox_2d": [x1, y1, x2, y2], "desc": "…"}, …}, "图片_2": …}.

Read from a model's reply, which may have prose and code fences around it, be cut off, or not be JSON at all. An object
counts if it is closed and has no fault; faults are reported, never repaired. Of one image, the list that Qwen's models
write by themselves is read too: [{"bbox_2d": [x1, y1, x2, y2], "label": "…"}, …].
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from halp_probe.reply_text import after_thinking
from halp_probe.tasks.dense_object import faults, in_other_units, make_object, with_description
from halp_probe.tasks.geometry import DenseObject

_START = re.compile(r'\{\s*("(?:[^"\\]|\\.){1,64}")\s*:')  # an object's brace and first name
_LIST_START = re.compile(r'\[\s*\{\s*"(?:bbox_2d|quad|line|line_points|label|desc)"\s*:')
_CUT_START = re.compile(r'\{\s*(?:"[^"]{0,64}"?\s*)?\Z')  # the text ends within or after the first name
_NO_MEMBERS = re.compile(r"\s*(?:```\w*\s*)?(?:\{\s*\}|\[\s*\])\s*(?:```\s*)?\Z")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]*(?:\\.[^"\\]*)*")?|[{}\[\]]', re.DOTALL)  # a lone quote begins a string without an end
_WRAPPED = re.compile(r'(?:"\s*:|\[)\s*\Z')  # text before the objects' JSON if that is a value in other JSON
_SCALAR = re.compile(r'[^\s,{}\[\]":]+')
_SPACE = re.compile(r"\s*")
_IMAGE = re.compile(r"(?:图片|image)_([1-9][0-9]{0,5})", re.ASCII)
_OBJECT = re.compile(r"object_([1-9][0-9]{0,5})", re.ASCII)
_LONGEST_SHOWN = 64  # characters of a quotation
_LONGEST_INT = 20  # digits; a longer one is not a coordinate, and int() would refuse very long ones


@dataclass(frozen=True)
class Problem:
    """Fault and its place: an object (`图片_1/object_2`), an image's group (`图片_1`), or the `reply`.

    `other_units`: the place is given in other units than thousandths, or seems to be.
    """

    place: str
    reason: str
    other_units: bool = False


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Objects without a fault in the reply's order, all problems, and whether the JSON is cut off."""

    objects: tuple[DenseObject, ...]
    problems: tuple[Problem, ...]
    cut_off: bool

    @property
    def other_units(self) -> Problem | None:
        """First object that is not in thousandths, as it seems; then the places of the others are in doubt too."""
        return next((problem for problem in self.problems if problem.other_units), None)


def read_reply(text: str, images: int) -> Reading:
    """Read the objects in a reply to a prompt of so many images, for any text at all.

    With one image its group may be left out: {"object_1": …}. Text up to `</think>` is not part of the reply.
    """
    text = after_thinking(text) or ""
    grouped = next((at.start() for at in _START.finditer(text) if _is_expected_name(_decode(at[1]))), None)
    listed = _LIST_START.search(text)
    if listed is not None and (grouped is None or listed.start() < grouped):
        return _Reader(text, images).read(listed.start())
    if grouped is not None:
        return _Reader(text, images).read(grouped)
    if _NO_MEMBERS.match(text):
        return Reading(objects=(), problems=(), cut_off=False)
    return Reading(
        objects=(),
        problems=(Problem("reply", "holds no JSON of objects"),),
        cut_off=_CUT_START.search(text) is not None,
    )


def group_by_image(objects: Sequence[DenseObject], images: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the objects as JSON that `read_reply` reads, with a group for every image."""
    return {
        f"图片_{image}": {f"object_{one.index}": as_member(one, one.points) for one in objects if one.image == image}
        for image in range(1, images + 1)
    }


def as_member(item: DenseObject, points: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return an object's own JSON, with points in any unit."""
    count = {"line_points": len(points)} if item.kind == "line" else {}
    return {item.kind: [number for point in points for number in point], **count, "desc": item.desc}


class _EndError(Exception):
    """The text ends inside a JSON value."""


class _MalformedError(Exception):
    """The text is not JSON; the rest of it cannot be read."""


class _Reader:
    """Reader that goes through the text once; `_at` is the index of the next character."""

    def __init__(self, text: str, images: int) -> None:
        self._text, self._images = text, images
        self._at, self._place = 0, "reply"
        self._objects: list[DenseObject] = []
        self._problems: list[Problem] = []

    def read(self, start: int) -> Reading:
        """Read the JSON that begins at `start`."""
        self._at, cut_off = start, False
        if _WRAPPED.search(self._text, 0, start):
            self._report("reply", "holds the objects inside other JSON")
        try:
            (self._list if self._text[start] == "[" else self._root)()
        except _EndError:
            self._report(self._place, "cut off")
            cut_off = True
        except _MalformedError as error:
            self._report(self._place, f"{error}; what follows is not read")
        return Reading(objects=tuple(self._objects), problems=tuple(self._problems), cut_off=cut_off)

    def _report(self, place: str, reason: str, *, other_units: bool = False) -> None:
        self._problems.append(Problem(place, reason, other_units))

    def _list(self) -> None:
        """Read a list of objects, which count from 1 and belong to the only image."""
        self._at += 1
        index = 0
        while self._peek() != "]":
            if index:
                self._take(",")
            index += 1
            self._place = f"object_{index}"
            self._peek()
            alone = "" if self._images == 1 else f"belongs to none of the {self._images} images"
            self._object(self._place, 1, index, alone)
        self._at += 1
        if _LIST_START.search(self._text, self._at):
            self._report("reply", "holds JSON of objects more than once; only the first is read")

    def _root(self) -> None:
        groups, flat, due = 0, _Count(), _Count()
        for key in self._members(""):
            image, index = _IMAGE.fullmatch(key), _OBJECT.fullmatch(key)
            if image is not None and not flat.last:
                groups += 1
                self._group(key, int(image[1]), due.fault(int(image[1])))
            elif index is not None and not groups:
                alone = "" if self._images == 1 else f"belongs to none of the {self._images} images"
                self._object(key, 1, int(index[1]), alone or flat.fault(int(index[1])))
            else:
                self._skip(key)
        for number in range(due.last + 1, self._images + 1) if groups else ():
            self._report(f"图片_{number}", "is missing")
        if any(_is_expected_name(_decode(again[1])) for again in _START.finditer(self._text, self._at)):
            self._report("reply", "holds JSON of objects more than once; only the first is read")

    def _group(self, key: str, image: int, fault: str) -> None:
        fault = fault if image <= self._images else f"is none of the images shown: {self._images} in all"
        if fault:
            self._report(key, fault)
        if self._peek() != "{":
            self._report(key, "is no JSON object")
            self._value()
            return
        count = _Count()
        for name in self._members(key):
            index = _OBJECT.fullmatch(name)
            if index is None:
                self._skip(f"{key}/{name}")
            else:
                self._object(f"{key}/{name}", image, int(index[1]), count.fault(int(index[1])), fault)

    def _object(self, place: str, image: int, index: int, fault: str, group_fault: str = "") -> None:
        members, unread = _load(self._value())
        members = with_description(members)
        reasons = [fault, unread] if unread else [fault, *faults(members)]
        for reason in filter(None, reasons):
            self._report(place, reason, other_units=in_other_units(members))
        if not any(reasons) and not group_fault:
            self._objects.append(make_object(image, index, members))

    def _skip(self, place: str) -> None:
        self._report(_shorten(place), "is no name that is known here")
        self._value()

    def _members(self, outer: str) -> Iterator[str]:
        """Yield the keys of the JSON object that begins here; the caller reads each value before the next."""
        self._at += 1
        first = True
        while self._peek() != "}":
            if not first:
                self._take(",")
            key = self._key()
            self._take(":")
            self._place = f"{outer}/{_shorten(key)}" if outer else _shorten(key)
            self._peek()
            yield key
            self._place, first = outer or "reply", False
        self._at += 1

    def _peek(self) -> str:
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
        if self._at == len(self._text):
            raise _EndError
        return self._text[self._at]

    def _take(self, mark: str) -> None:
        if self._peek() != mark:
            raise _MalformedError(f"{_shorten(self._text[self._at])!r} where {mark!r} is due")
        self._at += 1

    def _key(self) -> str:
        if self._peek() != '"':
            raise _MalformedError(f"{self._text[self._at]!r} where a name in quotes is due")
        literal = _STRING.match(self._text, self._at)
        if literal is None:
            raise _EndError
        self._at = literal.end()
        key = _decode(literal[0])
        if key is None:
            raise _MalformedError(f"{_shorten(literal[0])} is no JSON string")
        return key

    def _value(self) -> str:
        """Return the text of the value that begins here, found by its brackets and quotes alone."""
        begin, opening = self._at, self._peek()
        if opening in "{[":
            self._at = self._closing(opening, {"{": "}", "[": "]"}[opening])
        else:
            found = (_STRING if opening == '"' else _SCALAR).match(self._text, self._at)
            if found is None and opening == '"':
                raise _EndError
            if found is None:
                raise _MalformedError(f"{opening!r} where a value is due")
            self._at = found.end()
        return self._text[begin : self._at]

    def _closing(self, opening: str, closing: str) -> int:
        depth = 0
        for token in _TOKEN.finditer(self._text, self._at):
            depth += (token[0] == opening) - (token[0] == closing)
            if depth == 0:
                return token.end()
            if token[0] == '"':
                break
        raise _EndError


class _Count:
    """Checks that numbers come as 1, 2, 3."""

    def __init__(self) -> None:
        self.last = 0
        self._numbers: set[int] = set()

    def fault(self, number: int) -> str:
        """Return what is wrong with the next number; "" if it is the expected one."""
        due, self.last = self.last + 1, number
        repeated = number in self._numbers
        self._numbers.add(number)
        return "occurs twice" if repeated else "" if number == due else f"comes where number {due} is due"


def _is_expected_name(key: str | None) -> bool:
    return key is not None and (_IMAGE.fullmatch(key) or _OBJECT.fullmatch(key)) is not None


def _decode(literal: str) -> str | None:
    try:
        decoded: str = json.loads(literal)
    except ValueError:
        return None
    return decoded


def _load(text: str) -> tuple[Any, str]:
    """Decode JSON with objects as tuples of pairs, so that a repeated name shows; or return None and the fault."""
    try:
        return json.loads(text, object_pairs_hook=tuple, parse_int=_integer, parse_constant=float), ""
    except json.JSONDecodeError as error:
        return None, f"is no JSON: {error.msg}"
    except RecursionError:
        return None, "is nested too deeply"


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INT else float(digits)


def _shorten(text: str) -> str:
    text = text.encode(errors="backslashreplace").decode()  # half a surrogate pair could not be encoded
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
