"""Colours and style of the page's own drawings, in a light and in a dark browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from halp_probe.app.wording import plain


@dataclass(frozen=True, kw_only=True)
class Palette:
    """Colours on a theme's background: text and lines have a contrast of 4.5 or more, fills of 3 or more."""

    ink: str
    quiet: str
    rule: str
    query: str
    vision: str
    limit: str


LIGHT = Palette(ink="#1c2126", quiet="#5a636d", rule="#d5dae0", query="#0b5394", vision="#a34700", limit="#5a636d")
DARK = Palette(ink="#f0f2f6", quiet="#a9b2bd", rule="#3a4049", query="#7db8f0", vision="#f2a45c", limit="#a9b2bd")

STYLE = Path(__file__).with_name("style.css")


def palette() -> Palette:
    """Return the palette of the visitor's browser."""
    return DARK if st.context.theme.type == "dark" else LIGHT


def alert(text: str) -> None:
    """Show a sentence that must not be overlooked; markup in it is escaped, which `st.error` would not do."""
    st.html(f'<div role="alert" class="halp-alert">{plain(text)}</div>')
