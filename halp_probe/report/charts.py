"""Plots of the report, each with the legend below it. A curve is {"title", "x", "y"}, numbers or None."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from markupsafe import Markup
from matplotlib.lines import Line2D

from halp_probe.plotting.figures import UNIT, new_figure, svg
from halp_probe.plotting.frame import Axis, Frame, Ink, Stroke, new_frame
from halp_probe.report.colours import CHANCE
from halp_probe.report.wording import decimal, is_known

_INK = Ink(text="#1c2126", rule="#e2e6ea")
_STROKES = (  # reused for further curves; distinguishable without colour
    Stroke(colour="#0b5394", width=2.6),
    Stroke(colour="#d55e00", dashes=(7, 3)),
    Stroke(colour="#00795a", dashes=(2, 3)),
    Stroke(colour="#a0437e", dashes=(9, 3, 2, 3)),
    Stroke(colour="#7a6a00", dashes=(4, 4)),
    Stroke(colour="#2b8cc4", dashes=(12, 3)),
)
_CHANCE = Stroke(colour="#6b7480", width=1.3, dashes=(1, 4), is_round=True)
_OF_BASELINES = Stroke(colour="#f5cba4", width=8), Stroke(colour="#b84f00", width=2)
_INTERVALS = {  # of a result's kind: its interval and its value
    **dict.fromkeys(("baseline", "selected_baseline", "baseline_stack"), _OF_BASELINES),
    "control": (Stroke(colour="#cfd4da", width=8), Stroke(colour="#3d444c", width=2)),
}
_INTERVAL = Stroke(colour="#a9c8e6", width=8), Stroke(colour="#0b5394", width=2)
_BAR_CHANCE = Stroke(colour="#9aa4ae", width=1)
_BAR_WIDTH, _BAR_HEIGHT, _BAR_EDGE = 180, 16, 4
_SWATCH_WIDTH, _SWATCH_HEIGHT = 28, 8
Curves = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Chart:
    """Drawing and its legend: pairs of (a short line in the curve's style, title)."""

    svg: Markup
    legend: tuple[tuple[Markup, str], ...]


def roc(curves: Curves) -> Chart:
    """Draw the share of wrong answers flagged against that of right ones, with guessing as the diagonal."""
    x, y = Axis(title="share of right answers flagged"), Axis(title="share of wrong answers flagged")
    return _curves(x, y, curves, "ROC curves", lambda frame: frame.line([0, 1], [0, 1], _CHANCE, "chance"), "guessing")


def precision_recall(curves: Curves, prevalence: float) -> Chart:
    """Draw precision by recall; `prevalence` is the share of wrong answers, the precision of guessing."""
    x = Axis(title="recall: share of wrong answers flagged")
    y = Axis(title="precision: share of flagged that are wrong")
    guess = f"guessing: {decimal(prevalence)}"
    return _curves(x, y, curves, "Precision-recall curves", lambda frame: _level(frame, prevalence), guess)


def risk_coverage(curves: Curves, prevalence: float) -> Chart:
    """Draw errors by the share of questions answered; `prevalence` is the share of wrong answers among all."""
    values = [value for curve in curves for key in ("y", "high") for value in curve[key] or ()]
    x = Axis(title="share of questions answered, least risky first")
    y = Axis.up_to("share of wrong answers among those", [*values, prevalence])

    def under(frame: Frame) -> None:
        for number, curve in enumerate(curves):
            if curve["low"] is not None and curve["high"] is not None:
                frame.band(curve["x"], curve["low"], curve["high"], _stroke(number), "band")
        _level(frame, prevalence)

    return _curves(x, y, curves, "Risk-coverage curves", under, f"any order: {decimal(prevalence)}")


def calibration(bins: Mapping[str, Any]) -> Chart:
    """Draw dots with their intervals; a bin without a number is left out."""
    largest = [*bins["risk"], *bins["rate"], *bins["high"]]
    x, y = Axis.up_to("risk given by the probe", largest), Axis.up_to("share that was wrong", largest)
    stroke = _STROKES[0]
    with new_frame(x, y, _INK) as frame:
        frame.line([0, x.top], [0, y.top], _CHANCE, "chance")
        for risk, rate, low, high in zip(bins["risk"], bins["rate"], bins["low"], bins["high"], strict=True):
            if is_known(risk) and is_known(rate):
                frame.line([risk, risk], [low, high], stroke, "whisker")
                frame.mark(risk, rate, "o", fill="white", edge=stroke, name="dot")
        drawing = frame.svg(f"Calibration: {frame.description}", "plot")
    legend = ((_swatch(stroke), "questions of about the same risk"), (_swatch(_CHANCE), "perfect calibration"))
    return Chart(drawing, legend)


@dataclass(frozen=True)
class IntervalBars:
    """Small pictures of intervals, all on one scale that begins at `low` and ends at 1."""

    low: float

    @staticmethod
    def of(estimates: Sequence[Mapping[str, Any]]) -> IntervalBars:
        """Return the smallest scale in steps of .1 that holds all the intervals, and chance."""
        numbers = [e[key] for e in estimates for key in ("value", "low") if is_known(e[key])]
        return IntervalBars(int(10 * max(0.0, min([CHANCE - 0.1, *numbers])) + 1e-9) / 10)

    def bar(self, estimate: Mapping[str, Any], kind: str) -> Markup:
        """Draw an interval; `kind` is a result's, for the colour. Nothing is drawn without a value."""
        if not is_known(estimate["value"]):
            return Markup()
        whisker, mark = _INTERVALS.get(kind, _INTERVAL)
        lines = [_BAR_CHANCE.line([self._place(CHANCE)] * 2, [0, 1], "rule")]
        if is_known(estimate["low"]) and is_known(estimate["high"]):
            ends = [self._place(estimate["low"]), self._place(estimate["high"])]
            lines.append(whisker.line(ends, [0.5, 0.5], "whisker"))
        end = 1 / _BAR_HEIGHT
        lines.append(mark.line([self._place(estimate["value"])] * 2, [end, 1 - end], "mark"))
        return _lines(lines, _BAR_WIDTH, _BAR_HEIGHT, "bar")

    def _place(self, value: float) -> float:
        """Convert to a place from 0, the picture's left edge, to 1."""
        return (_BAR_EDGE + (value - self.low) / (1 - self.low) * (_BAR_WIDTH - 2 * _BAR_EDGE)) / _BAR_WIDTH


def _curves(x: Axis, y: Axis, curves: Curves, what: str, under: Callable[[Frame], None], guess: str) -> Chart:
    """Draw the curves above what `under` draws, the first on top; `guess` is the title of the dotted line."""
    titles = [str(curve["title"]) for curve in curves]
    with new_frame(x, y, _INK) as frame:
        under(frame)
        for number, curve in reversed(list(enumerate(curves))):
            frame.line(curve["x"], curve["y"], _stroke(number), "line")
        drawing = frame.svg(f"{what} of {', '.join(titles)}: {frame.description}", "plot")
    legend = [(_swatch(_stroke(number)), title) for number, title in enumerate(titles)]
    return Chart(drawing, (*legend, (_swatch(_CHANCE), guess)))


def _level(frame: Frame, height: float) -> None:
    frame.line([0, frame.x.top], [height, height], _CHANCE, "chance")


def _stroke(number: int) -> Stroke:
    return _STROKES[number % len(_STROKES)]


@cache
def _swatch(stroke: Stroke) -> Markup:
    """Draw a short line for a legend."""
    edge = 1 / _SWATCH_WIDTH
    line = stroke.line([edge, 1 - edge], [0.5, 0.5], "line")
    return _lines([line], _SWATCH_WIDTH, _SWATCH_HEIGHT, "swatch")


def _lines(lines: Sequence[Line2D], width: int, height: int, css_class: str) -> Markup:
    """Draw a picture of nothing but lines, whose places run from 0 to 1; it repeats the text beside it."""
    with new_figure(width * UNIT, height * UNIT) as figure:
        for line in lines:
            figure.add_artist(line)
        return svg(figure, None, css_class)
