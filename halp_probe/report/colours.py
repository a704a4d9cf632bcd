"""Colours of an AUROC: one fixed scale, so that a colour means the same number in every report."""

from __future__ import annotations

import math
from dataclasses import dataclass

from matplotlib import colormaps
from matplotlib.colors import Normalize, to_hex, to_rgb

CHANCE = 0.5
COLOURS = colormaps["RdBu"]  # red below chance, white at chance, blue above; told apart by the colour-blind too
SCALE = Normalize(0.0, 1.0)  # noise about chance stays pale, whatever the other numbers are
_UNKNOWN = "#eeeeee"


@dataclass(frozen=True)
class Shade:
    """A cell's colours as #rrggbb; `ink` is black or white, whichever is read more easily on `fill`."""

    fill: str
    ink: str


def shade(auroc: float | None) -> Shade:
    """The colours of an AUROC; grey for None and nan."""
    known = auroc is not None and math.isfinite(auroc)
    fill = to_hex(COLOURS(SCALE(auroc))) if known else _UNKNOWN
    light = luminance(fill)
    return Shade(fill, "#000000" if (light + 0.05) ** 2 > 0.05 * 1.05 else "#ffffff")


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb after WCAG 2: 0 for black, 1 for white."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
