"""Colours and style of what the page draws itself, in a light and in a dark browser."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st


@dataclass(frozen=True)
class Palette:
    """Each on the background of its theme: text and lines have a contrast of 4.5 or more, fills of 3 or more."""

    ink: str
    quiet: str
    rule: str
    query: str
    vision: str
    limit: str


LIGHT = Palette(ink="#1c2126", quiet="#5a636d", rule="#d5dae0", query="#0b5394", vision="#a34700", limit="#5a636d")
DARK = Palette(ink="#f0f2f6", quiet="#a9b2bd", rule="#3a4049", query="#7db8f0", vision="#f2a45c", limit="#a9b2bd")

STYLE = """<style>
.stMainBlockContainer { padding-top: 3rem; padding-bottom: 1.5rem; }
.halp-text { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.55; }
.halp-quiet { opacity: .78; font-size: .875rem; line-height: 1.45; overflow-wrap: anywhere; }
.halp-risk { margin: 0 0 .35rem; font-size: 1.05rem; line-height: 1.3; }
.halp-risk b { font-size: 1.75rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.halp-track { position: relative; height: .8rem; border-radius: .4rem; background: rgba(128, 136, 148, .3); }
.halp-fill { height: 100%; border-radius: .4rem; min-width: .4rem; background: #2f7fd6; }
.halp-fill.over { background: repeating-linear-gradient(-45deg, #d9541e 0 6px, #b23c0c 6px 11px); }
.halp-limit { position: absolute; top: -.3rem; bottom: -.3rem; width: 3px; margin-left: -1.5px; background: currentColor; }
.halp-scale { position: relative; display: flex; justify-content: space-between; margin: .4rem 0 .5rem; font-size: .8rem; opacity: .8; }
.halp-scale .at { position: absolute; white-space: nowrap; }
.halp-picture img { display: block; width: 100%; max-height: 16rem; object-fit: contain; object-position: left; border-radius: .4rem; }
.halp-chart { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; align-items: center; opacity: 1; }
.halp-chart img { display: block; width: 100%; max-width: 20rem; }
.halp-chart ul { flex: 1 1 12rem; margin: 0; padding: 0; list-style: none; }
.halp-chart li { margin: 0 0 .25rem; }
.halp-alert { padding: .7rem .9rem; border-left: 4px solid #d9541e; border-radius: .3rem; background: rgba(217, 84, 30, .12); overflow-wrap: anywhere; }
.halp-scroll { overflow-x: auto; max-width: 100%; }
.halp-scroll table { border-collapse: collapse; font-size: .84rem; line-height: 1.4; }
.halp-scroll th, .halp-scroll td { padding: .35rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid rgba(128, 136, 148, .4); min-width: 4rem; max-width: 18rem; overflow-wrap: anywhere; }
.halp-scroll .cell { color: #000; text-align: center; }
@media (max-width: 640px) { .halp-picture img { max-height: 12rem; } }
</style>"""


def palette() -> Palette:
    """That of the visitor's browser."""
    return DARK if st.context.theme.type == "dark" else LIGHT
