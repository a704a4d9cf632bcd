"""Titles that fit."""

from __future__ import annotations


def shorten(text: str, length: int = 400) -> str:
    """Return the beginning of a long text."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
