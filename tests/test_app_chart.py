"""The page's chart holds every reading, rings the probe that decides, and wears the colours of its theme."""

from __future__ import annotations

import base64
import html
import re
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("streamlit")

from halp_probe.app.chart import Reading, chart
from halp_probe.app.theme import DARK, LIGHT, Palette

LAYERS = (0, 2, 5)


def readings() -> list[Reading]:
    """Six with a layer, the one that decides twice, and one without a layer."""
    names = [f"{place}_token_representation/layer_{layer}" for place in ("vision", "query") for layer in LAYERS]
    risks = np.linspace(0.2, 0.8, len(names))
    found = [
        Reading(representation=name, risk=float(risk), decides=False) for name, risk in zip(names, risks, strict=True)
    ]
    return [
        Reading(representation=names[-1], risk=0.8, decides=True),
        *found,
        Reading(representation="vision_only_representation", risk=0.4, decides=False),
    ]


def picture(found: str) -> ElementTree.Element:
    data = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', found)
    assert data is not None
    return ElementTree.fromstring(base64.b64decode(data[1]))


def middles(drawn: ElementTree.Element, name: str) -> np.ndarray:
    """[marks, 2] lefts and tops of the middles."""
    found = []
    for group in drawn.iter():
        if group.get("class") == name:
            places = re.findall(r"(-?[\d.]+) (-?[\d.]+)", group[0].attrib["d"])
            corners = np.array(places, dtype=float)
            found.append((corners.min(axis=0) + corners.max(axis=0)) / 2)
    return np.array(found)


def test_every_reading_is_drawn_once_where_its_risk_is() -> None:
    drawn = picture(chart(readings(), 0.35, LIGHT))
    numbers = [element for element in drawn.iter() if element.tag.endswith("text")]
    lefts = {t.text: float(t.attrib["x"]) for t in numbers if "middle" in t.attrib["style"]}
    tops = {t.text: float(t.attrib["y"]) for t in numbers if "end" in t.attrib["style"]}
    zero, full = tops["0"], tops["100"]
    discs, squares = middles(drawn, "dot query"), middles(drawn, "dot vision")
    for marks, risks in ((squares, (0.2, 0.32, 0.44)), (discs, (0.56, 0.68, 0.8))):
        assert marks[:, 0] == pytest.approx([lefts[str(layer)] for layer in LAYERS], abs=0.2)
        assert (zero - marks[:, 1]) / (zero - full) == pytest.approx(risks, abs=0.03)  # a number's foot is lower
    assert middles(drawn, "ring") == pytest.approx(discs[-1:], abs=0.2)
    assert len(middles(drawn, "limit")) == 1


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_its_colours_are_the_themes(colours: Palette) -> None:
    found = set(re.findall("#[0-9a-f]{6}", ElementTree.tostring(picture(chart(readings(), 0.35, colours))).decode()))
    assert {colours.query, colours.vision, colours.limit, colours.ink, colours.quiet, colours.rule} == found


def test_it_is_told_in_words_too() -> None:
    found = html.unescape(chart(readings(), 0.35, LIGHT))
    assert re.search('alt="Risk by layer. [^"]*layer 5, end of the question: 80[^"]*decides', found)
    assert "the image as the language model gets it: 40" in found and found.count("(decides)") == 1
    assert "<img" not in chart(readings()[-1:], 0.35, LIGHT)
