"""What a run was made with, compared with what it would go on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Every setting that is not the same, as text; "" when all are. One that is not there counts as None."""
    return "; ".join(
        f"{name} is {stored.get(name)!r} there and {now.get(name)!r} now"
        for name in sorted({*stored, *now})
        if stored.get(name) != now.get(name)
    )


def options_json(options: Mapping[str, Any] | None) -> str | None:
    """Return a chat template's variables as the JSON object that records hold; None without any."""
    return json.dumps(dict(options), sort_keys=True) if options else None
