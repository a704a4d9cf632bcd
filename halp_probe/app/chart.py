"""Chart of each probe's risk for one question: by layer, at the end of the image and at the end of the question."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from halp_probe.app.theme import Palette
from halp_probe.app.wording import PLACES, percent, place, plain
from halp_probe.plotting.figures import svg_file
from halp_probe.plotting.frame import Axis, Frame, Ink, Stroke, new_frame
from halp_probe.records import IMAGE_MEAN, QUERY_TOKEN, QUESTION_END, VISION_TOKEN
from halp_probe.shards.names import layer_of

_STEPS = (1, 2, 5, 7, 10, 20)  # between ticks of layers; 7 suits the probed layers of a model of 28
_MOST_TICKS = 8


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Risk by one probe, and the representation that it reads."""

    representation: str
    risk: float
    decides: bool

    @property
    def position(self) -> str:
        """Position of the representation, without its layer."""
        return self.representation.split("/")[0]

    @property
    def layer(self) -> int | None:
        """Layer of the representation; None for those without one."""
        return layer_of(self.representation)


def chart(readings: list[Reading], threshold: float, colours: Palette) -> str:
    """Return HTML: a drawing with its legend, and the probes without a layer in words.

    The readings may hold one representation twice, as `selected_probe` and under its own name; it is drawn once.
    """
    layered = sorted(_unique(readings).values(), key=lambda reading: reading.layer or 0)
    layered = [reading for reading in layered if reading.layer is not None]
    whole = [reading for reading in _unique(readings).values() if reading.layer is None]
    parts = []
    if layered:
        parts.append(_picture(layered, threshold, colours))
    key = [*_legend(layered, colours), *(plain(_words(reading)) for reading in whole)]
    parts.append(f"<ul>{''.join(f'<li>{words}</li>' for words in key)}</ul>")
    return f'<div class="halp-chart halp-quiet">{"".join(parts)}</div>'


def _unique(readings: list[Reading]) -> Mapping[str, Reading]:
    return {reading.representation: reading for reading in sorted(readings, key=lambda reading: reading.decides)}


def _picture(layered: list[Reading], threshold: float, colours: Palette) -> str:
    ink = Ink(text=colours.quiet, rule=colours.rule)
    strokes = {
        VISION_TOKEN: Stroke(colour=colours.vision, width=2, dashes=(2, 3)),
        IMAGE_MEAN: Stroke(colour=colours.vision, width=1),
        QUESTION_END: Stroke(colour=colours.query, width=1),
        QUERY_TOKEN: Stroke(colour=colours.query, width=2),
    }
    with new_frame(_layers(layered), Axis(title="likely to be wrong, %", top=100, step=25), ink) as frame:
        limit = Stroke(colour=colours.limit, width=1.5, dashes=(5, 4))
        frame.line([0, frame.x.top], [100 * threshold] * 2, limit, "limit")
        for position, stroke in strokes.items():
            here = [reading for reading in layered if reading.position == position]
            layers, risks = [float(reading.layer or 0) for reading in here], [100 * reading.risk for reading in here]
            frame.line(layers, risks, stroke, "line")
            for layer, risk in zip(layers, risks, strict=True):
                _mark(frame, layer, risk, position, stroke.colour)
        decisive = next((reading for reading in layered if reading.decides), None)
        if decisive is not None:
            ring = Stroke(colour=colours.ink, width=1.5)
            frame.mark(float(decisive.layer or 0), 100 * decisive.risk, "o", name="ring", edge=ring, size=17)
        label = f"Risk by layer. {'; '.join(map(_words, layered))}"
        data = base64.b64encode(svg_file(frame.svg(label))).decode()
    return f'<img alt="{plain(label)}" src="data:image/svg+xml;base64,{data}">'


def _layers(layered: list[Reading]) -> Axis:
    last = max(2, *(reading.layer or 0 for reading in layered))
    step = next((step for step in _STEPS if last <= step * (_MOST_TICKS - 1)), _STEPS[-1])
    return Axis(title="layer", top=-(-last // step) * step, step=step)


def _mark(frame: Frame, layer: float, risk: float, position: str, colour: str) -> None:
    """Draw a disc at a place of the question, a square at one of the image: they differ without colour too."""
    if position in (QUERY_TOKEN, QUESTION_END):
        frame.mark(layer, risk, "o", name="dot query", fill=colour)
    else:
        frame.mark(layer, risk, "s", name="dot vision", fill=colour, size=7.5)


def _legend(layered: list[Reading], colours: Palette) -> list[str]:
    if not layered:
        return []
    marks = {
        QUERY_TOKEN: f'<span style="color:{colours.query}">●</span> {PLACES[QUERY_TOKEN]}',
        QUESTION_END: f'<span style="color:{colours.query}">● thin</span> {PLACES[QUESTION_END]}',
        VISION_TOKEN: f'<span style="color:{colours.vision}">■</span> {PLACES[VISION_TOKEN]}',
        IMAGE_MEAN: f'<span style="color:{colours.vision}">■ thin</span> {PLACES[IMAGE_MEAN]}',
    }
    legend = [words for position, words in marks.items() if any(r.position == position for r in layered)]
    ring = ["◯ the probe that decides"] if any(reading.decides for reading in layered) else []
    return [*legend, "┄ threshold", *ring]


def _words(reading: Reading) -> str:
    return f"{place(reading.representation)}: {percent(reading.risk)}{' (decides)' if reading.decides else ''}"
