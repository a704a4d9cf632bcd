"""A plot as SVG text: a frame with two axes, and lines, bands and dots in it.

Lengths are in the drawing's own units; a phone shows the drawing's whole width, so a unit is about one of its pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from halp_probe.report.wording import is_known

WIDTH, HEIGHT = 360, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 14, 28, 44  # room around the frame for ticks and titles
_SMALLEST_STEP = 0.6  # points of a line that are nearer to the one before are left out: nobody could see them
Number = float | None


@dataclass(frozen=True)
class Axis:
    """From 0 to `top`, with a tick at every `step`."""

    title: str
    top: float = 1.0
    step: float = 0.2

    @property
    def ticks(self) -> list[float]:
        return [k * self.step for k in range(round(self.top / self.step) + 1)]

    @staticmethod
    def up_to(title: str, values: Iterable[Number]) -> Axis:
        """The smallest axis of round ticks that holds all values, at most 1."""
        largest = min(1.0, max((value for value in values if value is not None and is_known(value)), default=1.0))
        step = next((step for step in (0.02, 0.05, 0.1) if largest <= 5 * step + 1e-9), 0.2)
        steps = max(2, -int(-(largest - 1e-9) // step))
        return Axis(title, top=steps * step, step=step)


@dataclass(frozen=True)
class Frame:
    """Where the values of two axes lie in the drawing."""

    x: Axis
    y: Axis

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Left and top of a pair of values."""
        across = _LEFT + x / self.x.top * (WIDTH - _LEFT - _RIGHT)
        return across, HEIGHT - _BOTTOM - y / self.y.top * (HEIGHT - _TOP - _BOTTOM)

    def path(self, points: Iterable[tuple[float, float]]) -> str:
        """What joins the points, without those that lie on top of the one before."""
        kept: list[tuple[float, float]] = []
        places = [self.place(x, y) for x, y in points]
        for place in places:
            if not kept or max(abs(place[0] - kept[-1][0]), abs(place[1] - kept[-1][1])) >= _SMALLEST_STEP:
                kept.append(place)
        if places and kept[-1] != places[-1]:
            kept.append(places[-1])
        return "M" + "L".join(f"{left:.1f} {top:.1f}" for left, top in kept)

    def line(self, xs: Sequence[Number], ys: Sequence[Number], style: str) -> Markup:
        """A line that is interrupted where a number is missing."""
        return Markup().join(
            Markup('<path class="line {}" d="{}"/>').format(style, self.path(points)) for points in _runs(xs, ys)
        )

    def band(self, xs: Sequence[Number], low: Sequence[Number], high: Sequence[Number], style: str) -> Markup:
        """The area between two lines."""
        edges = zip(_runs(xs, low, high), _runs(xs, high, low), strict=True)
        return Markup().join(
            Markup('<path class="band {}" d="{}Z"/>').format(style, self.path([*under, *reversed(over)]))
            for under, over in edges
        )

    def dot(self, x: float, y: float, style: str) -> Markup:
        left, top = self.place(x, y)
        return Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(style, left, top)

    def drawing(self, label: str, parts: Iterable[Markup]) -> Markup:
        """The whole picture; `label` tells it to who cannot see it."""
        return Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>').format(
            WIDTH, HEIGHT, label, self._axes(), Markup().join(parts)
        )

    def _axes(self) -> Markup:
        parts = []
        for tick in self.x.ticks:
            left, top = self.place(tick, 0)
            parts.append(Markup('<path class="rule" d="M{0:.1f} {1}V{2:.1f}"/>').format(left, _TOP, top))
            parts.append(_text(left, top + 15, f"{tick:.3g}", "middle"))
        for tick in self.y.ticks:
            left, top = self.place(0, tick)
            parts.append(Markup('<path class="rule" d="M{:.1f} {:.1f}H{}"/>').format(left, top, WIDTH - _RIGHT))
            parts.append(_text(left - 6, top + 4, f"{tick:.3g}", "end"))
        parts.append(_text(4, 14, self.y.title, "start"))
        parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 8, self.x.title, "middle"))
        return Markup().join(parts)


def _text(left: float, top: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(left, top, anchor, text)


def _runs(
    xs: Sequence[Number], ys: Sequence[Number], also: Sequence[Number] | None = None
) -> Iterator[list[tuple[float, float]]]:
    """Unbroken runs of points whose numbers are all known, those of `also` too."""
    points = zip(xs, ys, ys if also is None else also, strict=True)
    for known, run in groupby(points, key=lambda point: all(is_known(number) for number in point)):
        if known:
            yield [(float(x or 0), float(y or 0)) for x, y, _ in run]
