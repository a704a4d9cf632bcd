"""Records of tables: a value for each column, and their texts, in which nothing written changes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass


class Number(float):
    """A number with the text that it was written as: `1.0` and `1e3` stay so."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Number:
        """Read the number; `text` is a number of JSON."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Record:
    """One row of a table: `unit` and `number` say where it stands in its file ("line" 3, "row" 2).

    `values` are texts where the file has nothing else (CSV), and otherwise what it says: numbers, true and false, None,
    bytes, lists, objects. `fault` says where the row has not one value for each column, and the remedy; "" if it has.
    """

    number: int
    values: Mapping[str, object]
    unit: str = "line"
    fault: str = ""

    @property
    def place(self) -> str:
        """Return where the row stands, in words."""
        return f"{self.unit} {self.number}"


def text_of(value: object) -> str:
    """Return a value as a text: blank for None and NaN, `true` and `false`, JSON for lists and objects.

    Raises TypeError for bytes, which are no text.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        raise TypeError("bytes are no text")
    if isinstance(value, Mapping | list | tuple):
        return _json(value)
    if hasattr(value, "tolist"):  # numpy's arrays and scalars, without importing it
        listed = value.tolist()
        return text_of(listed) if not isinstance(listed, float) or math.isnan(listed) else str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    text = "" if value is None else str(value)
    blank = text in ("<NA>", "NaT") or (isinstance(value, float) and math.isnan(value))  # pandas' words for none
    return "" if blank else text


def _json(value: object) -> str:
    """Return compact JSON in which numbers keep their texts."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(str(key), ensure_ascii=False)}:{_json(value[key])}" for key in value) + "}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_json, value))}]"
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return text_of(value) or "null"
    if hasattr(value, "tolist"):
        return _json(value.tolist())
    return json.dumps(text_of(value), ensure_ascii=False)
