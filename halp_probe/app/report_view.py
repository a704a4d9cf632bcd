"""Report on the page: its headline, AUROC by layer and position in numbers and colour, its riskiest answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import streamlit as st
from markupsafe import Markup

from halp_probe.app.pictures import thumbnails
from halp_probe.app.report_contents import Example, ReportContents, example_picture
from halp_probe.app.tables import facts, table
from halp_probe.app.theme import alert
from halp_probe.app.wording import PLACES, minute, percent
from halp_probe.bootstrap import Estimate
from halp_probe.report.colours import fill
from halp_probe.report.heatmap import Cell
from halp_probe.report.wording import count, decimal, is_known

_SCALE = (
    "AUROC: of all pairs of a wrong and a right answer, the share that the probe ranks rightly. 0.5 is guessing "
    "(pale), 1 is perfect (deep blue), below 0.5 is the wrong way round (red). In brackets, its 95 % interval."
)


def show(contents: ReportContents, pictures: dict[str, Markup]) -> None:
    """Show the report."""
    wrong = f"{count(contents.wrong)} ({percent(contents.wrong / contents.questions)})" if contents.questions else ""
    about = [("Model", contents.model), ("Questions", count(contents.questions)), ("Answered wrongly", wrong)]
    st.html(facts([*about, ("Images", count(contents.images)), ("Made", minute(contents.date))]))
    _headline(contents)
    for warning in contents.warnings:
        if warning.level == "serious":
            alert(warning.text)
        else:
            st.html(str(Markup('<p class="halp-quiet">{}</p>').format(warning.text)))
    st.html("<h2>Where the risk can be read</h2>")
    st.html(str(Markup('<p class="halp-quiet">{}</p>').format(_SCALE)))
    for drawn in heatmap(contents.cells):
        st.html(drawn)
    for title, examples in (("Riskiest answers", contents.most_risky), ("Safest answers", contents.least_risky)):
        if examples:
            st.html(f"<h2>{title}</h2>")
            st.html(_examples(examples, pictures))


def heatmap(cells: Sequence[Cell]) -> list[str]:
    """Return HTML: layers down and positions across, then those without a layer; each cell states its number."""
    by_place = {(cell.position, cell.layer): cell for cell in cells}
    positions = list(dict.fromkeys(cell.position for cell in cells if cell.layer is not None))
    layers = sorted({cell.layer for cell in cells if cell.layer is not None})
    rows = [[f"layer {layer}", *(_heat(by_place.get((position, layer))) for position in positions)] for layer in layers]
    singles = [[_place(cell.position), _heat(cell)] for cell in cells if cell.layer is None]
    drawn = [table(["", *map(_place, positions)], rows)] if rows else []
    return [*drawn, *([table(["Without a layer", "AUROC"], singles)] if singles else [])]


def pictures(contents: ReportContents, images: Path | None, complaints: list[str]) -> dict[str, Markup]:
    """Return pictures of the examples by question id; the first failure is added to `complaints`."""
    shown = [*contents.most_risky, *contents.least_risky]
    if images is None:
        return {}
    return thumbnails(
        (e.question_id for e in shown), lambda question_id: [example_picture(contents, question_id, images)], complaints
    )


def _headline(contents: ReportContents) -> None:
    headline = contents.headline
    words = Markup('<p class="halp-risk">{}: AUROC <b>{}</b> {}</p>').format(
        headline.title[:1].upper() + headline.title[1:],
        _number(headline.auroc.value),
        _interval(headline.auroc.low, headline.auroc.high),
    )
    if headline.baseline is not None and headline.baseline_auroc is not None:
        words += Markup('<p class="halp-quiet">The best baseline, {}, has {}{}.</p>').format(
            headline.baseline, _number(headline.baseline_auroc.value), _difference(headline.difference)
        )
    st.html(str(words))


def _examples(examples: Iterable[Example], pictures: dict[str, Markup]) -> str:
    rows: list[list[str | Markup]] = [
        [
            percent(example.risk),
            pictures.get(example.question_id, Markup()) + Markup.escape(example.image_id),
            example.question,
            example.answer,
            example.truth,
            "wrong" if example.wrong else "right",
        ]
        for example in examples
    ]
    return table(["Risk", "Image", "Question", "Answer", "Truth", "Judged"], rows)


def _heat(cell: Cell | None) -> Markup:
    if cell is None:
        return Markup("<td></td>")
    return Markup('<td class="cell" style="background:{}">{}<small>{}</small></td>').format(
        fill(cell.auroc), _number(cell.auroc), _interval(cell.low, cell.high)
    )


def _place(position: str) -> str:
    return PLACES.get(f"{position}_representation", position)


def _difference(difference: Estimate | None) -> str:
    if difference is None or not is_known(difference.value):
        return ""
    interval = _interval(difference.low, difference.high, signed=True)
    return f"; the difference is {decimal(difference.value, signed=True)} {interval}"


def _number(value: float) -> str:
    return decimal(value) if is_known(value) else "not known"


def _interval(low: float, high: float, signed: bool = False) -> str:
    known = is_known(low) and is_known(high)
    return f"({decimal(low, signed)} to {decimal(high, signed)})" if known else ""
