"""Read a text of JSON value by value: only the value at hand is in memory, and numbers keep the texts they have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn, TextIO

from halp_probe.errors import InputError
from halp_probe.plain_text import shorten
from halp_probe.tables.records import Number

_BLOCK = 1 << 16  # characters
_LONGEST = 200_000_000  # characters of one value
_SLACK = 16  # characters of the longest word or escape that the end of a block can cut
_OPEN = "Unterminated string"  # as the package json says it
_WORDS = ("true", "false", "null", "-")
_BLANKS = " \t\r\n"
_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}


class _FaultError(ValueError):
    """JSON that says something which is not accepted, however much of it follows."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in names if names.count(name) > 1)
        raise _FaultError(f"an object has the key {shorten(doubled, 100)!r} twice; keep one")
    return found


def _constant(name: str) -> NoReturn:
    raise _FaultError(f"{name} is no JSON; write null")


_DECODER = json.JSONDecoder(parse_float=Number, parse_constant=_constant, object_pairs_hook=_pairs)


def kind_of(value: object) -> str:
    """Return what a value of JSON is, in words."""
    return _KINDS.get(type(value), "a number")


class JsonStream:
    """Cursor in a text of JSON, which is read in blocks. `name` is that of the file, for errors."""

    def __init__(self, text: TextIO, name: str, error: type[InputError]) -> None:
        self._text, self._name, self._error = text, name, error
        self._buffer, self._at, self._ended = "", 0, False
        self.line = 1  # at which the cursor stands

    def peek(self) -> str:
        """Return the next character that is not blank, and stand on it; "" at the end."""
        while True:
            end = self._at
            while end < len(self._buffer) and self._buffer[end] in _BLANKS:
                end += 1
            self._advance(end)
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._fill():
                return ""

    def take(self, expected: str) -> str:
        """Go past one of the `expected` characters, and return it."""
        found = self.peek()
        if not found:
            self._cut_off(self.line)
        if found not in expected:
            wanted = " or ".join(map(repr, expected))
            self._refuse(f"{found!r} stands where {wanted} is expected", self._at)
        self._advance(self._at + 1)
        return found

    def value(self) -> Any:
        """Return the next value, and go past it."""
        if not self.peek():
            self._cut_off(self.line)
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as found:
                if self._ended and self._is_unfinished(found):
                    self._cut_off(self.line)
                early = found.pos < len(self._buffer) - _SLACK and not found.msg.startswith(_OPEN)
                if self._ended or early:
                    self._refuse(found.msg, found.pos)
            except (ValueError, RecursionError) as found:
                self._refuse(str(found) if isinstance(found, _FaultError) else "a value is too large", self._at)
            else:
                if end < len(self._buffer) or self._ended:  # else a number may go on
                    self._advance(end)
                    return value
            if len(self._buffer) - self._at > _LONGEST:
                self._refuse(f"a value of more than {_LONGEST:,} characters begins there", self._at)
            self._fill()

    def elements(self) -> Iterator[Any]:
        """Yield the elements of the list at which the cursor stands, and go past it."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value()
            if self.take(",]") == "]":
                return

    def members(self) -> Iterator[str]:
        """Yield the keys of the object at which the cursor stands; the caller takes the value after each."""
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            if self.peek() != '"':
                self.take('"')
            key: str = self.value()
            self.take(":")
            yield key
            if self.take(",}") == "}":
                return

    def _advance(self, end: int) -> None:
        self.line += self._buffer.count("\n", self._at, end)
        self._at = end

    def _fill(self) -> bool:
        """Read on, as much again as is waiting; return whether there was more."""
        waiting = self._buffer[self._at :]
        more = self._text.read(max(_BLOCK, len(waiting)))
        self._buffer, self._at, self._ended = waiting + more, 0, not more
        return bool(more)

    def _is_unfinished(self, found: json.JSONDecodeError) -> bool:
        """Return whether it is the end of the text that makes a value wrong."""
        rest = self._buffer[found.pos :].strip()
        cut_escape = found.msg.endswith("escape") and len(rest) <= _SLACK and rest[:1] in '"\\u'
        return cut_escape or found.msg.startswith(_OPEN) or any(word.startswith(rest) for word in _WORDS)

    def _refuse(self, problem: str, position: int) -> NoReturn:
        line = self.line + self._buffer.count("\n", self._at, position)
        raise self._error(
            f"{self._name} cannot be used: line {line}: {problem}; mend it, or write it anew as JSON lines"
        )

    def _cut_off(self, line: int) -> NoReturn:
        raise self._error(f"{self._name} is cut off: it ends inside what begins in line {line}; get the file again")
