"""File names as people order them: img2 before img10."""

from __future__ import annotations

import re

_DIGITS = re.compile(r"([0-9]+)")


def natural_key(name: str) -> tuple[tuple[tuple[str, int], ...], str]:
    """For `sorted`; numbers in names count as numbers, and case only where nothing else differs."""
    parts = _DIGITS.split(name)
    words, numbers = parts[::2], [*map(int, parts[1::2]), -1]
    return tuple((word.casefold(), number) for word, number in zip(words, numbers, strict=True)), name
