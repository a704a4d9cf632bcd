"""One way to plot: numbers stand where they are, the same bytes every time, and nothing of the user's is touched."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from halp_probe.plotting.figures import new_figure, png, svg, svg_file
from halp_probe.plotting.frame import HEIGHT, WIDTH, Axis, Ink, Stroke, new_frame

INK = Ink(text="#123456", rule="#e2e6ea")
STROKE = Stroke(colour="#0b5394")
AXIS = Axis(title="x")


def drawn(x: Axis, y: Axis, *parts: tuple[str, Any], label: str = "label") -> ElementTree.Element:
    """The picture of a frame on which these methods were called with these arguments."""
    with new_frame(x, y, INK) as frame:
        for method, arguments in parts:
            getattr(frame, method)(**arguments)
        return ElementTree.fromstring(frame.svg(label))


def named(picture: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [
        path
        for group in picture.iter()
        if group.get("class") == name
        for path in group.iter()
        if path.tag.endswith("path")
    ]


def points(path: ElementTree.Element) -> np.ndarray:
    """[P, 2] of lefts and tops."""
    return np.array(re.findall(r"([\d.-]+) ([\d.-]+)", path.attrib["d"]), dtype=float)


def ticks(picture: ElementTree.Element) -> tuple[dict[str, float], dict[str, float]]:
    """Where the numbers stand: lefts below the plot, and baselines beside it."""
    texts = [element for element in picture.iter() if element.tag.endswith("text")]
    below = {t.text or "": float(t.attrib["x"]) for t in texts if "middle" in t.attrib["style"]}
    beside = {t.text or "": float(t.attrib["y"]) for t in texts if "end" in t.attrib["style"]}
    return below, beside


def line(xs: Any, ys: Any, name: str = "line") -> tuple[str, Any]:
    return "line", {"xs": xs, "ys": ys, "stroke": STROKE, "name": name}


def test_a_line_goes_where_the_numbers_of_its_axes_stand():
    picture = drawn(Axis(title="across"), Axis(title="up", top=0.5, step=0.1), line([0, 1, 0.4], [0, 0.5, 0.3]))
    (path,) = named(picture, "line")
    below, beside = ticks(picture)
    low = beside["0"]
    places = points(path)
    assert places[:, 0] == pytest.approx([below["0"], below["1"], below["0.4"]], abs=0.05)
    assert places[:, 1] - places[0, 1] == pytest.approx([0, beside["0.5"] - low, beside["0.3"] - low], abs=0.05)
    assert 0 < low - places[0, 1] < 6  # a number's middle is level with its line


def test_every_tick_has_its_number_and_its_rule():
    picture = drawn(Axis(title="x"), Axis(title="y", top=0.1, step=0.05))
    below, beside = ticks(picture)
    assert {"0", "0.2", "0.4", "0.6", "0.8", "1"} <= set(below) and set(beside) == {"0", "0.05", "0.1"}
    rules = [points(p) for p in picture.iter() if p.tag.endswith("path") and INK.rule in p.get("style", "")]
    upright = sorted(places[0, 0] for places in rules if np.ptp(places[:, 0]) == 0)
    assert upright == pytest.approx(sorted(left for text, left in below.items() if text != "x"), abs=0.05)
    assert len(rules) == 6 + 3


def test_a_line_is_interrupted_where_a_number_is_missing():
    picture = drawn(AXIS, Axis(title="y"), line([0, 0.2, 0.4, 0.6, 0.8], [0, 0.1, None, 0.3, float("nan")]))
    (path,) = named(picture, "line")
    assert path.attrib["d"].count("M") == 2 and "nan" not in path.attrib["d"]


def test_a_band_lies_between_its_lines_and_is_interrupted_too():
    xs, low, high = [0, 0.25, 0.5, 0.75, 1.0], [0.1, 0.1, None, 0.3, 0.3], [0.4, 0.5, 0.5, 0.6, 0.7]
    band = ("band", {"xs": xs, "low": low, "high": high, "stroke": STROKE, "name": "band"})
    picture = drawn(AXIS, Axis(title="y"), band, line(xs, low, "low"), line(xs, high, "high"))
    bands = [points(path) for path in named(picture, "band")]
    assert len(bands) == 2
    edges = {tuple(place) for name in ("low", "high") for path in named(picture, name) for place in points(path)}
    inside = {tuple(place) for each in bands for place in each}
    below, _ = ticks(picture)
    middle = (below["0.4"] + below["0.6"]) / 2
    assert inside == {place for place in edges if abs(place[0] - middle) > 1}


@pytest.mark.parametrize("shape", ["o", "s"])
def test_a_mark_is_of_its_size_at_its_place(shape):
    mark = ("mark", {"x": 0.5, "y": 0.25, "shape": shape, "name": "dot", "fill": "red", "size": 10})
    picture = drawn(AXIS, Axis(title="y"), mark, line([0.5], [0.25], "point"), line([0.5, 0.6], [0.25, 0.25]))
    (path,) = named(picture, "dot")
    numbers = np.array(re.findall(r"-?[\d.]+", path.attrib["d"]), dtype=float).reshape(-1, 2)
    corners = points(named(picture, "line")[0])
    assert numbers.max(axis=0) - numbers.min(axis=0) == pytest.approx([10, 10], abs=0.1)
    assert (numbers.max(axis=0) + numbers.min(axis=0)) / 2 == pytest.approx(corners[0], abs=0.1)


def test_later_parts_lie_above_earlier_ones():
    names = ["first", "second", "third"]
    picture = drawn(AXIS, Axis(title="y"), *(line([0, 1], [0, 1], name) for name in names))
    assert [group.get("class") for group in picture.iter() if group.get("class") in names] == names


def test_many_points_become_few_and_keep_their_shape():
    x = np.linspace(0, 1, 20_000)
    picture = drawn(AXIS, Axis(title="y"), line(x.tolist(), (x**2).tolist()), line([0, 1], [0, 1], "diagonal"))
    kept = points(named(picture, "line")[0])
    (left, bottom), (right, top) = points(named(picture, "diagonal")[0])
    assert len(kept) < 1000
    wanted = np.interp(kept[:, 0], left + x * (right - left), bottom + x**2 * (top - bottom))
    assert np.abs(wanted - kept[:, 1]).max() < 0.3
    assert kept[-1] == pytest.approx([right, top], abs=0.06)


@pytest.mark.parametrize("largest", [0.001, 0.1, 0.174, 0.25, 0.5, 0.51, 0.83, 1.0])
def test_an_axis_holds_its_values(largest):
    axis = Axis.up_to("t", [0.0, None, largest, float("nan")])
    assert largest <= axis.top + 1e-9 and axis.top <= max(0.04, 2 * largest) + 1e-9
    assert axis.ticks[-1] == pytest.approx(axis.top) and 3 <= len(axis.ticks) <= 7


@pytest.mark.filterwarnings("ignore:Glyph")  # it warns that it cannot measure a control character
def test_texts_are_shown_as_they_are():
    evil = """a < b & "c" $x^{$ \x1b </svg><script>"""
    with new_frame(Axis(title=evil), Axis(title="y"), INK) as frame:
        source = frame.svg(evil)
    picture = ElementTree.fromstring(source.replace("\x1b", "?"))
    assert evil.replace("\x1b", "\ufffd") in [element.text for element in picture.iter()]
    assert picture.get("aria-label") == evil.replace("\x1b", "?") and picture.get("role") == "img"
    assert "<script" not in source


def test_an_element_for_a_page_has_no_names_or_styles_that_reach_beyond_it():
    with new_frame(AXIS, Axis(title="y"), INK) as frame:
        frame.line([0, 1], [0, 1], STROKE, "line")
        frame.band([0, 1], [0, 0.1], [0.2, 0.3], STROKE, "band")
        frame.mark(0.5, 0.5, "o", name="dot")
        source = frame.svg("label", "plot")
    picture = ElementTree.fromstring(source)
    assert picture.get("class") == "plot" and picture.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}"
    tags = {element.tag.rpartition("}")[2] for element in picture.iter()}
    assert tags == {"svg", "g", "path", "text"}
    assert not any(name in element.attrib for element in picture.iter() for name in ("id", "width", "height"))


def test_what_only_repeats_its_surroundings_is_hidden_from_readers_aloud():
    with new_figure(1, 1) as figure:
        picture = ElementTree.fromstring(svg(figure, None))
    assert picture.get("aria-hidden") == "true" and "role" not in picture.attrib


def test_repeated_marks_keep_what_they_refer_to():
    with new_figure(3, 2) as figure:
        figure.subplots().plot([0, 1, 2], [0, 1, 0], "o-")
        file = svg_file(svg(figure, "label"))
    picture = ElementTree.parse(io.BytesIO(file)).getroot()
    ids = {element.get("id") for element in picture.iter() if "id" in element.attrib}
    uses = [element.get("{http://www.w3.org/1999/xlink}href", "") for element in picture.iter()]
    clips = re.findall(rb"url\(#([^)]+)\)", file)
    wanted = {use[1:] for use in uses if use} | {clip.decode() for clip in clips}
    assert len(wanted) >= 2 and wanted == ids


def example() -> str:
    with new_frame(AXIS, Axis(title="y"), INK) as frame:
        frame.line([0, 0.5, 1], [0, 0.2, 1], STROKE, "line")
        return frame.svg("label")


def test_neither_a_notebooks_style_nor_other_threads_change_a_picture():
    """And they are as they were afterwards: matplotlib's settings are one for all threads."""
    wanted, before = example(), dict(matplotlib.rcParams)
    settings = {"axes.facecolor": "black", "font.size": 30, "lines.linewidth": 9, "svg.fonttype": "path"}
    with matplotlib.rc_context(settings):
        chosen = dict(matplotlib.rcParams)
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: example(), range(40))) == {wanted}
        assert dict(matplotlib.rcParams) == chosen
    assert dict(matplotlib.rcParams) == before


def test_a_failure_leaves_the_users_settings():
    before = dict(matplotlib.rcParams)
    with pytest.raises(ZeroDivisionError), new_figure(1, 1):
        _ = 1 / 0
    assert dict(matplotlib.rcParams) == before and example()


def test_a_png_has_its_size_and_background():
    with new_figure(2, 1, "white") as figure:
        pixels = imread(io.BytesIO(png(figure, dpi=100)), format="png")
    assert pixels.shape[:2] == (100, 200) and (pixels == 1).all()


def test_no_window_system_is_chosen():
    code = (
        "import sys, test_plotting; test_plotting.example(); print('matplotlib.pyplot' in sys.modules);"
        "import halp_probe.report.heatmap as h;"
        "cell = h.Cell(position='vision_only', layer=None, auroc=.6, low=.5, high=.7); h.heatmap_png([cell], 't', 's');"
        "import halp_probe.comparison.plot, halp_probe.report.html; print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="tests")
    assert done.stdout.split() == ["False", "False"]


def test_the_front_door_does_not_load_matplotlib():
    code = "import sys, halp_probe, halp_probe.cli; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
