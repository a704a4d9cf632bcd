"""Small plot: two axes that begin at 0, and lines, bands and marks between them.

Lengths are in the drawing's own units, 1/72 inch; a phone shows the drawing's whole width, so a unit is about one of
its pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Patch, PathPatch, Polygon
from matplotlib.transforms import Affine2D

from halp_probe.plotting.figures import UNIT, new_figure, svg

WIDTH, HEIGHT = 360, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 14, 28, 44  # room around the frame for ticks and titles
_TEXT_SIZE = 11.5
Number = float | None


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Axis from 0 to `top`, with a tick at every `step`."""

    title: str
    top: float = 1.0
    step: float = 0.2

    @property
    def ticks(self) -> list[float]:
        """Values with a tick."""
        return [k * self.step for k in range(round(self.top / self.step) + 1)]

    @staticmethod
    def up_to(title: str, values: Iterable[Number]) -> Axis:
        """Return the smallest axis of round ticks that holds all values, at most 1."""
        largest = min(1.0, max((value for value in values if value is not None and math.isfinite(value)), default=1.0))
        step = next((step for step in (0.02, 0.05, 0.1) if largest <= 5 * step + 1e-9), 0.2)
        steps = max(2, -int(-(largest - 1e-9) // step))
        return Axis(title=title, top=steps * step, step=step)


@dataclass(frozen=True, kw_only=True)
class Ink:
    """Colours around a plot's lines: its text and its grid."""

    text: str
    rule: str


@dataclass(frozen=True, kw_only=True)
class Stroke:
    """Style of a line: its colour, its width, and the lengths of dashes and gaps in turn.

    No dashes if it is unbroken.
    """

    colour: str
    width: float = 1.8
    dashes: tuple[float, ...] = ()
    is_round: bool = False  # the dashes' ends

    def line(self, xs: Sequence[Number], ys: Sequence[Number], name: str) -> Line2D:
        """Return matplotlib's line, interrupted where a number is missing; `name` is its class in the SVG."""
        cap = "round" if self.is_round else "butt"
        drawn = Line2D(_array(xs), _array(ys), color=self.colour, linewidth=self.width, clip_on=False, gid=name)
        drawn.set(solid_capstyle="butt", dash_capstyle=cap, dash_joinstyle="round", solid_joinstyle="round")
        if self.dashes:
            drawn.set_linestyle((0, tuple(length / self.width for length in self.dashes)))  # matplotlib's are in widths
        return drawn


class Frame:
    """Axes of a figure, to be drawn on inside the block of `new_frame`; later parts lie above earlier ones."""

    def __init__(self, figure: Figure, x: Axis, y: Axis, ink: Ink) -> None:
        self.x, self.y = x, y
        self._figure, self._ink, self._parts = figure, ink, 0
        across, down = (WIDTH - _LEFT - _RIGHT) / WIDTH, (HEIGHT - _TOP - _BOTTOM) / HEIGHT
        self._axes = figure.add_axes((_LEFT / WIDTH, _BOTTOM / HEIGHT, across, down), xlim=(0, x.top), ylim=(0, y.top))
        self._axes.patch.set_visible(False)
        self._axes.spines[:].set_visible(False)
        self._axes.set_xticks(x.ticks, [f"{tick:.3g}" for tick in x.ticks])
        self._axes.set_yticks(y.ticks, [f"{tick:.3g}" for tick in y.ticks])
        self._axes.tick_params(left=False, bottom=False, labelsize=_TEXT_SIZE, labelcolor=ink.text, pad=5)
        self._axes.grid(color=ink.rule, linewidth=1, clip_on=False)
        self._axes.set_axisbelow(True)
        self._write(4, 14, y.title, "left")
        self._write((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 8, x.title, "center")

    @property
    def description(self) -> str:
        """Description of what is drawn against what, for readers who cannot see it."""
        return f"{self.y.title} (upwards) by {self.x.title} (to the right)."

    def line(self, xs: Sequence[Number], ys: Sequence[Number], stroke: Stroke, name: str) -> None:
        """Draw a line that is interrupted where a number is missing."""
        drawn = stroke.line(xs, ys, name)
        drawn.set_zorder(self._next())
        self._axes.add_line(drawn)

    def band(
        self, xs: Sequence[Number], low: Sequence[Number], high: Sequence[Number], stroke: Stroke, name: str
    ) -> None:
        """Draw the area between two lines, in a light tone of the stroke's colour."""
        x, lower, upper = (_array(each) for each in (xs, low, high))
        known = np.flatnonzero(np.isfinite([x, lower, upper]).all(axis=0))
        height = self._next()
        for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
            outline = np.concatenate([np.stack([x, lower], axis=1)[run], np.stack([x, upper], axis=1)[run[::-1]]])
            self._patch(Polygon(outline, facecolor=stroke.colour, alpha=0.13), name, height)

    def mark(
        self,
        x: float,
        y: float,
        shape: Literal["o", "s"],
        *,
        name: str,
        fill: str = "none",
        edge: Stroke | None = None,
        size: float = 8,
    ) -> None:
        """Draw a disc or a square at a pair of values, `size` units across; no outline without `edge`."""
        marker = MarkerStyle(shape)
        left, top = self._axes.transData.transform((x, y))
        place = marker.get_transform() + Affine2D().scale(size).translate(left, top)
        drawn = PathPatch(marker.get_path(), transform=place, facecolor=fill, linewidth=0)
        if edge:
            drawn.set(edgecolor=edge.colour, linewidth=edge.width)
        self._patch(drawn, name, self._next())

    def svg(self, label: str, css_class: str = "") -> Markup:
        """Return the whole picture; `label` describes it to readers who cannot see it."""
        return svg(self._figure, label, css_class)

    def _patch(self, patch: Patch, name: str, height: float) -> None:
        """Add a shape.

        What matplotlib calls collections and markers it may draw by reference to an id.
        """
        patch.set(clip_on=False, gid=name, zorder=height)
        self._axes.add_artist(patch)

    def _write(self, left: float, top: float, text: str, align: Literal["left", "center"]) -> None:
        place = left / WIDTH, 1 - top / HEIGHT
        colour, size = self._ink.text, _TEXT_SIZE
        self._figure.text(*place, text, color=colour, fontsize=size, ha=align, va="baseline", parse_math=False)

    def _next(self) -> float:
        """Return the height of the next part, above the grid."""
        self._parts += 1
        return 2 + self._parts


@contextmanager
def new_frame(x: Axis, y: Axis, ink: Ink) -> Iterator[Frame]:
    """Yield a frame to draw on, and to take as SVG, inside the block."""
    with new_figure(WIDTH * UNIT, HEIGHT * UNIT) as figure:
        yield Frame(figure, x, y, ink)


def _array(values: Sequence[Number]) -> np.ndarray:
    """Return None as nan, where matplotlib interrupts a line."""
    return np.array(values, dtype=np.float64)
