"""Tables of JSON: one object a line, a list of objects, or an object that holds one; read record by record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from halp_probe.errors import InputError
from halp_probe.plain_text import shorten
from halp_probe.tables.json_stream import JsonStream, kind_of
from halp_probe.tables.records import Record
from halp_probe.text_files import open_text

_LINES = {".jsonl", ".ndjson"}  # endings of which a single object is a line, whatever it holds
KEY = "key"  # the column of an object's keys, where its members are the rows


def json_records(path: Path, error: type[InputError], member: str = "") -> Iterator[Record]:
    """Yield the records of a file of JSON.

    A table is objects one after the other, as in JSON lines; a list of objects; or one object, in a file that is not
    named as JSON lines, with a list of objects in it, with lists of one length as its columns, or with nothing but
    objects, whose keys become the column `key`.
    `member` names the list where an object holds several. Raises `error` for JSON of another shape, and for a file
    that is broken or cut off.
    """
    return _Reader(path, error).records(member)


@dataclass(frozen=True)
class _Member:
    """A member of the one object of a file: what kind it is; of a list, its length and whether all are objects."""

    kind: str
    length: int = 0
    objects: bool = False
    numbered: bool = False  # an object whose keys are 0, 1, 2, …


class _Reader:
    def __init__(self, path: Path, error: type[InputError]) -> None:
        self._path, self._error = path, error

    def records(self, member: str) -> Iterator[Record]:
        with self._stream() as stream:
            first = stream.peek()
            if first == "[" and not member:
                yield from self._numbered(stream.elements())
                if stream.peek():
                    self._refuse(
                        f"more follows after its list, in line {stream.line}", "write one list, or an object a line"
                    )
                return
            if not first:
                return
            if first != "{":
                found = f"it has no member {member!r}" if first == "[" else "it is no list and no object"
                self._refuse(found, "a table of JSON is a list of objects, or an object a line")
            members = {name: _survey(stream) for name in stream.members()}
            alone = not stream.peek()
        if alone and not _LINES & set(self._path.suffixes[-2:]):
            yield from self._of_object(members, member)
        elif member:
            self._refuse(f"it has an object a line, and no member {member!r}", "leave the name after # out")
        else:
            yield from self._lines()

    def _lines(self) -> Iterator[Record]:
        with self._stream() as stream:
            while stream.peek():
                line = stream.line
                yield Record(line, self._object(stream.value(), f"line {line}"))

    def _of_object(self, members: Mapping[str, _Member], member: str) -> Iterator[Record]:
        if member and not members.get(member, _Member("")).objects:
            self._refuse(f"its object has no list of objects {member!r}, but {_names(members)}", "name another one")
        lists = [name for name, each in members.items() if each.objects and member in ("", name)]
        lengths = {each.length if each.kind == "a list" else -1 for each in members.values()}
        columns = len(lengths) == 1 and not lengths & {-1, 0}  # lists of one length
        if len(lists) == 1 and (member or len(members) == 1 or not columns):
            yield from self._list_at(lists[0])
        elif len(lists) > 1:
            self._refuse(
                f"it holds several lists of objects: {_names(lists)}",
                f"choose one as {self._path.name}#{shorten(lists[0], 100)}",
            )
        elif members and all(each.numbered for each in members.values()):
            self._refuse("it is written by columns, as pandas' to_json does", "write it with orient='records'")
        elif members and all(each.kind == "an object" for each in members.values()):
            yield from self._keyed()
        elif columns:
            yield from self._columns()
        else:
            yield from self._lines()

    def _list_at(self, member: str) -> Iterator[Record]:
        with self._stream() as stream:
            for name in stream.members():
                if name == member:
                    yield from self._numbered(stream.elements())
                else:
                    stream.value()

    def _keyed(self) -> Iterator[Record]:
        with self._stream() as stream:
            for number, key in enumerate(stream.members(), 1):
                values = self._object(stream.value(), f"row {number}")
                if KEY in values:
                    self._refuse(
                        f"its rows are named by keys, and have a column {KEY!r} too", "write it as a list of objects"
                    )
                yield Record(number, {KEY: key, **values}, "row")

    def _columns(self) -> Iterator[Record]:
        with self._stream() as stream:
            columns: dict[str, list[Any]] = stream.value()
        for number, values in enumerate(zip(*columns.values(), strict=True), 1):
            yield Record(number, dict(zip(columns, values, strict=True)), "row")

    def _numbered(self, elements: Iterator[Any]) -> Iterator[Record]:
        for number, element in enumerate(elements, 1):
            yield Record(number, self._object(element, f"row {number}"), "row")

    def _object(self, value: Any, place: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        return self._refuse(
            f"{place} is {kind_of(value)}", 'each row must be an object, such as {"question_id": "q1", …}'
        )

    @contextmanager
    def _stream(self) -> Iterator[JsonStream]:
        with open_text(self._path, self._error, kind="JSON") as text:
            yield JsonStream(text, str(self._path), self._error)

    def _refuse(self, problem: str, remedy: str) -> NoReturn:
        raise self._error(f"{self._path} cannot be used as a table: {problem}; {remedy}")


def _survey(stream: JsonStream) -> _Member:
    """Go past a member's value, and return what it is; its elements are not kept."""
    if stream.peek() != "[":
        value = stream.value()
        numbered = isinstance(value, dict) and bool(value) and list(value) == [str(key) for key in range(len(value))]
        return _Member(kind_of(value), numbered=numbered)
    length = objects = 0
    for element in stream.elements():
        length += 1
        objects += isinstance(element, dict)
    return _Member("a list", length, 0 < length == objects)


def _names(names: Mapping[str, Any] | list[str]) -> str:
    return shorten(", ".join(repr(name) for name in names), 400) or "nothing"
