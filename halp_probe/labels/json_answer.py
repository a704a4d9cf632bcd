"""The answer in a reply that is a JSON object: {"answer": "yes", "confidence": 0.9}."""

from __future__ import annotations

import json

from halp_probe.reply_text import without_fence

_KEYS = ("answer", "final_answer", "final answer", "prediction")


def json_answer(text: str) -> str | None:
    """Return the value under "answer" if the whole text is a JSON object, fenced or not; else None."""
    inner = without_fence(text).strip()
    if not inner.startswith("{"):
        return None
    try:
        loaded = json.loads(inner)
    except (ValueError, RecursionError):
        return None
    values = [value for key, value in loaded.items() if key.strip().lower() in _KEYS]
    if len(values) != 1 or isinstance(values[0], dict) or values[0] is None:
        return None
    if isinstance(values[0], list):
        return ", ".join(map(str, values[0]))
    return json.dumps(values[0]) if isinstance(values[0], bool) else str(values[0])
