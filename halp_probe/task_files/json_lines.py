"""JSON of the tasks' files: objects one a line, readable in any editor and by any reader of lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_BREAKS = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})  # some readers split there too


def json_line(record: Mapping[str, Any]) -> str:
    """One line with its end. Only "\\n" breaks it, whatever the texts hold."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False).translate(_BREAKS) + "\n"


def unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """As `object_pairs_hook`: an object whose names stand once. Raises ValueError for any other."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError(f"a name occurs twice among {', '.join(sorted(members))}")
    return members
