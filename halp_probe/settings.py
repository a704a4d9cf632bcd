"""Compare the settings that a run was made with and those with which it would be resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Describe every setting that differs; "" if none does. A setting that is missing counts as None."""
    return "; ".join(
        f"{name} is {stored.get(name)!r} there and {now.get(name)!r} now"
        for name in sorted({*stored, *now})
        if stored.get(name) != now.get(name)
    )


def options_json(options: Mapping[str, Any] | None) -> str | None:
    """Return a chat template's variables as the JSON object that records hold; None without any."""
    return json.dumps(dict(options), sort_keys=True) if options else None
