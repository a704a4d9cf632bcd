"""The report is one page that needs nothing beside it, tells what `report.json` holds, and lets no text do harm."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import pytest
from PIL import Image
from report_data import empty_report, estimate, examples, full_report, pictures, results, transfer

from halp_probe.errors import InputError
from halp_probe.report import charts
from halp_probe.report.html import render_report
from halp_probe.report.layout import differences, layer_grid
from halp_probe.report.thumbnails import thumbnail
from halp_probe.report.wording import Footnotes, against_baseline, against_chance, decimal, percent, points, tally

pytestmark = pytest.mark.slow

VOID = {"meta", "link", "img", "br", "hr"}
EVIL = (
    """<script>alert(1)</script><img src=x onerror=alert(2)> "' onload='a' {{ 7 * 7 }} {% raw %} $x^2$ </style> &amp;"""
)


class Page(HTMLParser):
    """A page's elements, each as (tag, attributes), and its text; unbalanced tags are an error."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag in ("p", "li", "dt", "dd", "th", "td"):
            self.words.append(" ")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "title"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def shown(report: dict[str, Any], thumbnails: dict[str, bytes] | None = None) -> Page:
    return Page(rendered(json.dumps(report), thumbnails is None or bool(thumbnails)))


@cache
def rendered(report: str, with_pictures: bool) -> str:
    """The page of a report in JSON: many tests look at the same one."""
    return render_report(json.loads(report), pictures() if with_pictures else {})


def poisoned(node: Any, keys: tuple[str, ...]) -> Any:
    """A copy in which the text under these keys is hostile."""
    if isinstance(node, dict):
        return {k: EVIL if k in keys and isinstance(v, str) else poisoned(v, keys) for k, v in node.items()}
    return [poisoned(item, keys) for item in node] if isinstance(node, list) else node


TEXTS = ("model_name", "revision", "shards", "labels", "images_told_by", "reason", "label_meaning", "title", "note")
TEXTS += (
    "column",
    "value",
    "representation",
    "question_id",
    "image_id",
    "question",
    "answer",
    "truth",
    "text",
    "preset",
)
WHOLE = [full_report(), empty_report(), poisoned(full_report(), TEXTS)]


@pytest.mark.parametrize("report", WHOLE, ids=["full", "empty", "hostile"])
def test_nothing_is_loaded_and_nothing_runs(report):
    page = shown(report)
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form", "foreignobject", "use", "image")
        assert not [name for name in attributes if name.startswith("on") or name in ("srcset", "xlink:href", "action")]
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("data:", "#"))
        assert tag != "meta" or attributes.get("http-equiv", "").lower() != "refresh"
    styles = re.findall(r"<style>(.*?)</style>", render_report(report, {}), re.DOTALL)
    assert len(styles) == 1 and not re.search(r"url\(|@import|@font-face", styles[0])
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")


def test_hostile_texts_are_shown_as_they_are():
    page = shown(poisoned(full_report(preset=EVIL), TEXTS))
    wanted = " ".join(EVIL.split())
    assert page.text.count(wanted) > 40
    assert Counter(t for t, _ in page.elements)["img"] == 0  # its image ids have no picture
    tags = {key: Counter(tag for tag, _ in shown(full_report(), {}).elements)[key] for key in ("script", "style", "h1")}
    assert {key: Counter(tag for tag, _ in page.elements)[key] for key in tags} == tags


def test_what_no_file_can_hold_is_replaced():
    report = full_report(warnings=[{"level": "note", "text": "a\x00b\ud800c\x1bd"}])
    page = render_report(report, {})
    assert "a\ufffdb\ufffdc\ufffdd" in page
    page.encode("utf-8")


def test_the_headline_tells_its_numbers():
    text = shown(full_report()).text
    for part in (
        "3,000, of which 521 wrong (17.4\N{NARROW NO-BREAK SPACE}%)",
        "Selected probe".lower() + " 0.905 AUROC 95 % interval: 0.890 to 0.920",
        "+0.036 AUROC 95 % interval: +0.017 to +0.054",
        "first token entropy, which reaches 0.869 (0.854 to 0.884). The probe is better",
        "−11.2 points 95 % interval: −12.3 to −10.1",
        "If the riskiest 20 % of the questions",
        "0.905 (0.890 to 0.920)",
    ):
        assert " ".join(part.split()) in text


def test_a_number_that_cannot_be_had_is_never_a_number():
    report = full_report()
    report["headline"]["auroc"] = {"value": None, "low": None, "high": None, "note": "one class only"}
    report["headline"]["difference"] = {"value": float("nan"), "low": None, "high": None, "note": "no entropy"}
    text = shown(report).text
    assert "selected probe n/a AUROC one class only" in text and "n/a AUROC no entropy" in text
    for page_text in (text, shown(empty_report()).text):
        assert not re.search(r"\b(nan|None|inf|Undefined)\b", page_text)


def test_every_result_is_in_the_tables_with_its_reason():
    text = shown(full_report()).text
    for one in results():
        e = one["auroc"]
        if e["value"] is not None:
            assert f"{decimal(e['value'])} ({decimal(e['low'])} to {decimal(e['high'])})" in text
        assert one["title"] in text
    assert "answer length n/a" in text and "the shards have no such column" in text
    assert "judged by its own labels" in text and "0.001 (×4), 0.01" in text and "4 of 5" in text


def test_serious_warnings_come_first_and_the_sections_in_order():
    page = shown(full_report())
    assert page.text.index("Serious. A lookup") < page.text.index("Caution. Only") < page.text.index("Note. 12")
    headings = [a["id"] for tag, a in page.elements if tag == "h2"]
    order = (
        "warnings headline layers results differences thresholds abstaining measures groups transfer examples method"
    )
    assert headings == order.split()
    for report in (full_report(), empty_report()):
        page = shown(report)
        ids = [a["id"] for _, a in page.elements if "id" in a]
        assert len(ids) == len(set(ids))
        assert {a["href"][1:] for a in page.all("a")} | {a["aria-labelledby"] for a in page.all("section")} <= set(ids)


def test_the_page_is_readable_without_eyes():
    page = shown(full_report())
    assert page.all("html")[0]["lang"] == "en" and len(page.all("h1")) == 1 and page.all("title")
    assert any(m.get("name") == "viewport" for m in page.all("meta"))
    assert all(th.get("scope") for th in page.all("th"))
    assert all(img["alt"] for img in page.all("img"))
    assert all(svg.get("aria-hidden") or svg.get("aria-label") for svg in page.all("svg"))
    assert Counter(svg.get("class") for svg in page.all("svg"))["plot"] == len(page.all("figure")) == 4


def test_pictures_are_inside_and_missing_ones_are_told():
    page = shown(full_report())
    images = page.all("img")
    assert len(images) == 6 and page.text.count("no picture") == 2
    for img in images:
        head, content = (img["src"] or "").split(",")
        assert head == "data:image/jpeg;base64" and base64.b64decode(content) in pictures().values()


def test_verdicts_are_words():
    report = full_report(examples={"most_risky": examples()["most_risky"][1:3], "least_risky": []})
    text = shown(report).text
    assert "✗ wrong · risk 0.952 · q0001" in text and "✓ right · risk 0.931 · q0002" in text
    assert "Least risky" not in text


def test_the_same_input_gives_the_same_page_and_keeps_it():
    report, before = full_report(), full_report()
    assert render_report(report, pictures()) == render_report(copy.deepcopy(report), pictures())
    assert report == before


@pytest.mark.parametrize("part", ["results", "measures", "groups", "transfer", "warnings"])
def test_any_list_may_be_empty(part):
    assert shown(full_report(**{part: []})).all("h1")


@pytest.mark.parametrize("part", ["roc", "pr", "risk_coverage", "calibration"])
def test_any_curve_may_be_missing(part):
    report = full_report()
    report["curves"][part] = None if part == "calibration" else []
    assert len(shown(report).all("figure")) == 3


def test_sizes_of_large_models():
    report = full_report(results=results(range(48)), transfer=transfer([f"source {k}" for k in range(9)]))
    page = shown(report)
    assert sum("heat" in (td.get("class") or "") for td in page.all("td")) == 2 * 48 + 2 + 81


def test_a_preset_makes_no_claim_of_nested_choices():
    report = full_report()
    assert "further splits inside the training folds" in shown(report).text
    report["made"]["preset"] = "halp"
    assert "further splits" not in shown(report).text and "preset halp repeats" in shown(report).text


def test_rows_split_by_row_are_told():
    report = full_report()
    assert "no image is on both sides" in shown(report).text
    report["made"]["split"] = "row"
    assert "no image is on both sides" not in shown(report).text
    assert shown(report).text.count("may stand on both sides") == 2


@pytest.mark.parametrize("change", [{"format": "other"}, {"format_version": 2}])
def test_another_version_is_refused(change):
    with pytest.raises(InputError, match="version 1 can be shown"):
        render_report(full_report(**change), {})


def test_what_is_missing_is_an_error():
    report = full_report()
    del report["data"]["label_meaning"]
    with pytest.raises(jinja2.UndefinedError, match="label_meaning"):
        render_report(report, {})


@pytest.mark.parametrize(
    ("number", "plain", "signed"),
    [(0.9066, "0.907", "+0.907"), (-0.0264, "−0.026", "−0.026"), (-0.0004, "0.000", "0.000"), (1.0, "1.000", "+1.000")],
)
def test_decimals(number, plain, signed):
    assert (decimal(number), decimal(number, True)) == (plain, signed)


def test_other_wordings():
    assert (points(-0.1123), points(0.0004, True), points(0.2, True)) == ("−11.2", "0.0", "+20.0")
    assert percent(0.1737) == "17.4\N{NARROW NO-BREAK SPACE}%"
    assert tally(["b", "a", "b"]) == "b (×2), a"
    notes = Footnotes()
    assert [notes.letter(text) for text in ("x", "y", "x")] == ["a", "b", "a"]
    assert [notes.letter(str(k)) for k in range(26)][-2:] == ["aa", "ab"]


def test_judgements_follow_the_interval():
    assert "lies in the interval" in against_chance(estimate(0.51, 0.02))
    assert "below the whole interval" in against_chance(estimate(0.6, 0.02))
    assert "wrong way round" in against_chance(estimate(0.4, 0.02))
    assert against_chance(estimate(None)) == against_baseline(estimate(None)) == ""
    assert "No clear difference" in against_baseline(estimate(0.01, 0.02))
    assert "probe is better" in against_baseline(estimate(0.03, 0.02))
    assert "baseline is better" in against_baseline(estimate(-0.03, 0.02))


def test_layers_and_positions_find_their_cells():
    grid = layer_grid(results((0, 7)))
    assert [r["name"] for r in grid.singles] == ["vision_only_representation", "vision_encoder_representation"]
    assert grid.positions == ("vision_token", "query_token") and [layer for layer, _ in grid.rows] == [0, 7]
    for layer, cells in grid.rows:
        assert [c["name"] for c in cells] == [f"{p}_representation/layer_{layer}" for p in grid.positions]
    holed = layer_grid([r for r in results((0, 7)) if r["name"] != "query_token_representation/layer_0"])
    assert holed.rows[0][1][1] is None


@pytest.mark.parametrize("n_baselines", [0, 1, 6, 7, 13])
def test_differences_are_all_there_and_never_wide(n_baselines):
    minus = {f"b_{k}": estimate(0.1) for k in range(n_baselines)}
    tables = list(differences([results()[0] | {"minus": minus}]))
    assert [name for names, _ in tables for name in names] == list(minus)
    assert all(1 <= len(names) <= 6 and len(rows) == 1 for names, rows in tables)


def test_curves_are_drawn_with_their_bands_and_their_legend():
    report = full_report()
    for kind, chart in (
        ("roc", charts.roc(report["curves"]["roc"])),
        ("pr", charts.precision_recall(report["curves"]["pr"], 0.174)),
        ("risk_coverage", charts.risk_coverage(report["curves"]["risk_coverage"], 0.174)),
    ):
        curves = report["curves"][kind]
        assert [title for _, title in chart.legend[:-1]] == [curve["title"] for curve in curves]
        assert chart.svg.count('class="line"') == len(curves) and chart.svg.count('class="chance"') == 1
        bands = sum(curve.get("low") is not None for curve in curves)
        assert chart.svg.count('class="band"') == bands
        strokes = [re.findall("stroke: #[0-9a-f]+|stroke-dasharray: [^;]+", swatch) for swatch, _ in chart.legend]
        assert len({str(each) for each in strokes}) == len(strokes), "told apart"
        for stroke in strokes:
            assert all(part in chart.svg for part in stroke), "the legend's lines are the plot's"


def test_calibration_has_a_dot_for_each_known_bin():
    bins = {
        "risk": [0.1, 0.2, None],
        "rate": [0.1, 0.3, 0.4],
        "low": [0.0, 0.2, 0.3],
        "high": [0.2, 0.4, 0.5],
        "count": [1, 1, 1],
    }
    drawn = charts.calibration(bins).svg
    assert drawn.count('class="dot"') == drawn.count('class="whisker"') == 2 and "nan" not in drawn


def test_a_bar_lies_at_its_numbers_on_a_scale_that_holds_all():
    bars = charts.IntervalBars.of([estimate(0.9, 0.05), estimate(0.36, 0.02), estimate(None)])
    assert bars.low == 0.3
    drawn = bars.bar(estimate(0.65, 0.15), "baseline")
    places = {
        name: [float(n) for n in re.findall(r"[\d.]+", re.search(f'class="{name}"><path d="([^"]*)"', drawn)[1])][::2]
        for name in ("rule", "whisker", "mark")
    }
    width = 180 - 2 * 4  # a margin on either side
    for name, values in (("rule", [0.5] * 2), ("whisker", [0.5, 0.8]), ("mark", [0.65] * 2)):
        assert places[name] == pytest.approx([4 + (value - 0.3) / 0.7 * width for value in values], abs=0.01)
    assert bars.bar(estimate(0.65, 0.15), "control") != drawn and not bars.bar(estimate(None), "baseline")
    no_interval = bars.bar({"value": 0.5, "low": None, "high": None, "note": ""}, "baseline")
    assert "whisker" not in no_interval and "mark" in no_interval


def test_a_thumbnail_is_small_upright_and_tells_nothing_of_its_maker(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"  # on its side
    Image.new("RGB", (400, 100), "red").save(tmp_path / "a.jpg", exif=exif, comment=b"secret")
    made = thumbnail(tmp_path / "a.jpg", 80)
    with Image.open(io.BytesIO(made)) as opened:
        assert (opened.format, opened.size) == ("JPEG", (20, 80))
    assert b"camera" not in made and b"secret" not in made and b"Exif" not in made
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(tmp_path / "b.png")
    with Image.open(io.BytesIO(thumbnail(tmp_path / "b.png"))) as opened:
        assert opened.size == (50, 50) and min(opened.getpixel((25, 25))) > 250  # white, not enlarged


def test_the_report_needs_no_torch():
    code = "import halp_probe.report.html, halp_probe.report.thumbnails, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
