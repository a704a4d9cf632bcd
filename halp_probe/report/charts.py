"""The report's plots, each with the legend that stands under it. A curve is {"title", "x", "y"}, numbers or None."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from halp_probe.report.colours import CHANCE
from halp_probe.report.svg import Axis, Frame
from halp_probe.report.wording import decimal, is_known

_STYLES = 6  # s0 … s5 in style.css: a colour and a dash each; further curves begin again
_BAR_WIDTH, _BAR_HEIGHT, _BAR_EDGE = 180, 16, 4
Curves = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Chart:
    """A drawing and its legend: pairs of (style, title)."""

    svg: Markup
    legend: tuple[tuple[str, str], ...]


def roc(curves: Curves) -> Chart:
    frame = Frame(Axis("share of right answers flagged"), Axis("share of wrong answers flagged"))
    chance = frame.line([0, 1], [0, 1], "chance")
    return _curves(frame, curves, "ROC curves", [chance], [("chance", "guessing")])


def precision_recall(curves: Curves, prevalence: float) -> Chart:
    """`prevalence` is the share of wrong answers, the precision of guessing."""
    frame = Frame(Axis("recall: share of wrong answers flagged"), Axis("precision: share of flagged that are wrong"))
    chance = frame.line([0, 1], [prevalence, prevalence], "chance")
    guess = ("chance", f"guessing: {decimal(prevalence)}")
    return _curves(frame, curves, "Precision-recall curves", [chance], [guess])


def risk_coverage(curves: Curves, prevalence: float) -> Chart:
    """`prevalence` is the share of wrong answers when every question is answered."""
    values = [value for curve in curves for key in ("y", "high") for value in curve[key] or ()]
    x = Axis("share of questions answered, least risky first")
    frame = Frame(x, Axis.up_to("share of wrong answers among those", [*values, prevalence]))
    bands = [
        frame.band(curve["x"], curve["low"], curve["high"], _style(number))
        for number, curve in enumerate(curves)
        if curve["low"] is not None and curve["high"] is not None
    ]
    chance = frame.line([0, 1], [prevalence, prevalence], "chance")
    guess = ("chance", f"any order: {decimal(prevalence)}")
    return _curves(frame, curves, "Risk-coverage curves", [*bands, chance], [guess])


def calibration(bins: Mapping[str, Any]) -> Chart:
    """Dots with their intervals; a bin without a number is left out."""
    largest = [*bins["risk"], *bins["rate"], *bins["high"]]
    frame = Frame(Axis.up_to("risk that the probe tells", largest), Axis.up_to("share that was wrong", largest))
    parts = [frame.line([0, frame.x.top], [0, frame.y.top], "chance")]
    for risk, rate, low, high in zip(bins["risk"], bins["rate"], bins["low"], bins["high"], strict=True):
        if is_known(risk) and is_known(rate):
            parts += [frame.line([risk, risk], [low, high], "s0"), frame.dot(risk, rate, "s0")]
    legend = (("s0", "questions of about the same risk"), ("chance", "perfect calibration"))
    return Chart(frame.drawing(f"Calibration: {_spoken(frame)}", parts), legend)


@dataclass(frozen=True)
class IntervalBars:
    """Small pictures of intervals, all on one scale that begins at `low` and ends at 1."""

    low: float

    @staticmethod
    def of(estimates: Sequence[Mapping[str, Any]]) -> IntervalBars:
        """The smallest scale in steps of .1 that holds all the intervals, and chance."""
        numbers = [e[key] for e in estimates for key in ("value", "low") if is_known(e[key])]
        return IntervalBars(int(10 * max(0.0, min([CHANCE - 0.1, *numbers])) + 1e-9) / 10)

    def bar(self, estimate: Mapping[str, Any], kind: str) -> Markup:
        """`kind` is a result's, for the colour. Nothing is drawn without a value."""
        if not is_known(estimate["value"]):
            return Markup()
        middle, at = _BAR_HEIGHT / 2, self._place(estimate["value"])
        parts = [Markup('<path class="rule" d="M{:.1f} 0v{}"/>').format(self._place(CHANCE), _BAR_HEIGHT)]
        if is_known(estimate["low"]) and is_known(estimate["high"]):
            ends = self._place(estimate["low"]), self._place(estimate["high"])
            parts.append(Markup('<path class="whisker" d="M{:.1f} {}H{:.1f}"/>').format(ends[0], middle, ends[1]))
        parts.append(Markup('<path class="mark" d="M{:.1f} 1V{}"/>').format(at, _BAR_HEIGHT - 1))
        return Markup('<svg class="bar {}" viewBox="0 0 {} {}" aria-hidden="true">{}</svg>').format(
            kind, _BAR_WIDTH, _BAR_HEIGHT, Markup().join(parts)
        )

    def _place(self, value: float) -> float:
        return _BAR_EDGE + (value - self.low) / (1 - self.low) * (_BAR_WIDTH - 2 * _BAR_EDGE)


def _curves(
    frame: Frame, curves: Curves, what: str, under: Sequence[Markup], legend: Sequence[tuple[str, str]]
) -> Chart:
    lines = [frame.line(curve["x"], curve["y"], _style(number)) for number, curve in enumerate(curves)]
    titles = [(_style(number), str(curve["title"])) for number, curve in enumerate(curves)]
    label = f"{what} of {', '.join(title for _, title in titles)}: {_spoken(frame)}"
    return Chart(frame.drawing(label, [*under, *reversed(lines)]), (*titles, *legend))


def _style(number: int) -> str:
    return f"s{number % _STYLES}"


def _spoken(frame: Frame) -> str:
    return f"{frame.y.title} (upwards) by {frame.x.title} (to the right)."
