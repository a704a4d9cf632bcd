"""What each probe says of one question: risk by layer, at the end of the image and at the end of the question."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from halp_probe.app.theme import Palette
from halp_probe.app.wording import PLACES, percent, place, plain
from halp_probe.records import QUERY_TOKEN, VISION_TOKEN
from halp_probe.report.svg import Axis, Frame
from halp_probe.shards.names import layer_of

_STEPS = (1, 2, 5, 7, 10, 20)  # between ticks of layers; 7 suits the layers probed of 28
_MOST_TICKS = 8


@dataclass(frozen=True)
class Reading:
    """One probe's risk and where it reads."""

    representation: str
    risk: float
    decides: bool

    @property
    def position(self) -> str:
        return self.representation.split("/")[0]

    @property
    def layer(self) -> int | None:
        return layer_of(self.representation)


def chart(readings: list[Reading], threshold: float, colours: Palette) -> str:
    """HTML: a drawing with its legend, and the probes without a layer in words.

    The readings may hold one representation twice, as `selected_probe` and under its own name; it is drawn once.
    """
    layered = sorted(_once(readings).values(), key=lambda reading: reading.layer or 0)
    layered = [reading for reading in layered if reading.layer is not None]
    whole = [reading for reading in _once(readings).values() if reading.layer is None]
    parts = []
    if layered:
        parts.append(_picture(layered, threshold, colours))
    key = [*_legend(layered, colours), *(plain(_words(reading)) for reading in whole)]
    parts.append(f"<ul>{''.join(f'<li>{words}</li>' for words in key)}</ul>")
    return f'<div class="halp-chart halp-quiet">{"".join(parts)}</div>'


def _once(readings: list[Reading]) -> Mapping[str, Reading]:
    return {reading.representation: reading for reading in sorted(readings, key=lambda reading: reading.decides)}


def _picture(layered: list[Reading], threshold: float, colours: Palette) -> str:
    frame = Frame(_layers(layered), Axis("likely to be wrong, %", 100, 25))
    parts = [Markup("<style>{}</style>").format(Markup(_style(colours)))]
    parts.append(frame.line([0, frame.x.top], [100 * threshold] * 2, "limit"))
    for position, style in ((VISION_TOKEN, "vision"), (QUERY_TOKEN, "query")):
        here = [reading for reading in layered if reading.position == position]
        layers, risks = [float(reading.layer or 0) for reading in here], [100 * reading.risk for reading in here]
        parts.append(frame.line(layers, risks, style))
        parts += [_mark(frame, layer, risk, style) for layer, risk in zip(layers, risks, strict=True)]
    decisive = next((reading for reading in layered if reading.decides), None)
    if decisive is not None:
        left, top = frame.place(float(decisive.layer or 0), 100 * decisive.risk)
        parts.append(Markup('<circle class="ring" cx="{:.1f}" cy="{:.1f}" r="8.5"/>').format(left, top))
    words = "; ".join(map(_words, layered))
    svg = str(frame.drawing("risk by layer", parts)).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{plain(f"Risk by layer. {words}")}" src="data:image/svg+xml;base64,{data}">'


def _layers(layered: list[Reading]) -> Axis:
    last = max(2, *(reading.layer or 0 for reading in layered))
    step = next((step for step in _STEPS if last <= step * (_MOST_TICKS - 1)), _STEPS[-1])
    return Axis("layer", -(-last // step) * step, step)


def _mark(frame: Frame, layer: float, risk: float, style: str) -> Markup:
    """A disc at the end of the question, a square at the end of the image: told apart without colour too."""
    if style == "query":
        return frame.dot(layer, risk, style)
    left, top = frame.place(layer, risk)
    square = '<rect class="dot {}" x="{:.1f}" y="{:.1f}" width="7.5" height="7.5"/>'
    return Markup(square).format(style, left - 3.75, top - 3.75)


def _legend(layered: list[Reading], colours: Palette) -> list[str]:
    if not layered:
        return []
    marks = {
        QUERY_TOKEN: f'<span style="color:{colours.query}">●</span> {PLACES[QUERY_TOKEN]}',
        VISION_TOKEN: f'<span style="color:{colours.vision}">■</span> {PLACES[VISION_TOKEN]}',
    }
    known = [words for position, words in marks.items() if any(r.position == position for r in layered)]
    ring = ["◯ the probe that decides"] if any(reading.decides for reading in layered) else []
    return [*known, "┄ threshold", *ring]


def _words(reading: Reading) -> str:
    return f"{place(reading.representation)}: {percent(reading.risk)}{' (decides)' if reading.decides else ''}"


def _style(colours: Palette) -> str:
    return (
        f"text{{font:12px 'Source Sans',system-ui,sans-serif;fill:{colours.quiet}}}"
        f".rule{{stroke:{colours.rule};fill:none}}.line{{fill:none;stroke-width:2}}"
        f".line.limit{{stroke:{colours.limit};stroke-dasharray:5 4;stroke-width:1.5}}"
        f".line.query{{stroke:{colours.query}}}.line.vision{{stroke:{colours.vision};stroke-dasharray:2 3}}"
        f".dot.query{{fill:{colours.query}}}.dot.vision{{fill:{colours.vision}}}"
        f".ring{{fill:none;stroke:{colours.ink};stroke-width:1.5}}"
    )
