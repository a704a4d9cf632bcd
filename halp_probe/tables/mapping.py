"""Find the values of named columns in records, also inside nested ones: `image.bytes`, `choices.0`."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def column_of(path: str, columns: Collection[str]) -> str | None:
    """Return the column with which a dotted path begins, the longest one; None if there is none."""
    ends = [len(path), *(end for end in range(len(path) - 1, 0, -1) if path[end] == ".")]
    return next((path[:end] for end in ends if path[:end] in columns), None)


def value_at(values: Mapping[str, object], path: str) -> object:
    """Return the value at a dotted path: keys of objects, and places in lists, counted from 0.

    A column of that very name is meant first, then that of the longest beginning. Below None all is None. Raises
    LookupError where there is no such place.
    """
    if path in values:
        return values[path]
    if (column := column_of(path, values)) is None:
        raise LookupError(path)
    return _inside(values[column], path[len(column) + 1 :])


def _inside(value: object, path: str) -> object:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return value_at(value, path)
    head, _, rest = path.partition(".")
    if isinstance(value, list | tuple) and head.isdecimal() and int(head) < len(value):
        return _inside(value[int(head)], rest) if rest else value[int(head)]
    raise LookupError(path)
