"""Colours of an AUROC: one fixed scale, so that a colour means the same number in every report."""

from __future__ import annotations

import math

from matplotlib import colormaps
from matplotlib.colors import Normalize, to_hex

CHANCE = 0.5
COLOURS = colormaps["RdBu"]  # red below chance, white at chance, blue above; safe for the colour-blind
_HALF = 0.8  # of AUROC on either side of chance: the colours' dark ends are not used, so black text is readable on all
SCALE = Normalize(CHANCE - _HALF, CHANCE + _HALF)
UNKNOWN = "#eeeeee"


def fill(auroc: float | None) -> str:
    """Return the colour of an AUROC as #rrggbb, to be written on in black; grey for None and nan.

    The scale does not depend on the other numbers: noise about chance stays pale, and a difference too small for the
    interval does not look like one.
    """
    return to_hex(COLOURS(SCALE(auroc))) if auroc is not None and math.isfinite(auroc) else UNKNOWN
