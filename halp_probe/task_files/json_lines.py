"""JSON of the tasks' files: one object a line, readable in any editor and by any reader of lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_BREAKS = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})  # some readers split there too


def json_line(record: Mapping[str, Any]) -> str:
    """Encode a record as one line with its end; no other line break stands in it, whatever the texts hold."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False).translate(_BREAKS) + "\n"


def unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object as a dict, as json's `object_pairs_hook`. Raises ValueError for a repeated name."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError(f"a name occurs twice among {', '.join(sorted(members))}")
    return members
