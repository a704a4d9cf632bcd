"""Check whether a text can be written anywhere, and shorten what is shown of it."""

from __future__ import annotations

import re

_BROKEN = re.compile("[\0\ud800-\udfff]")


def is_whole(text: str) -> bool:
    """Return whether a text holds neither a NUL character nor half a surrogate pair, which files and names cannot."""
    return _BROKEN.search(text) is None


def shorten(text: str, most: int = 1000) -> str:
    """Return the text, or its beginning and its end around its length if it has more than `most` characters."""
    if len(text) <= most:
        return text
    end = most // 3  # errors end with the remedy
    return f"{text[: most - end]} … ({len(text):,} characters) … {text[-end:]}"
