"""A report on the page: its headline, AUROC by layer and position in numbers and colour, its riskiest answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import streamlit as st
from markupsafe import Markup

from halp_probe.app.pictures import thumbnails
from halp_probe.app.report_found import Example, ReportFound, example_picture
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


def show(found: ReportFound, pictures: dict[str, Markup]) -> None:
    wrong = f"{count(found.wrong)} ({percent(found.wrong / found.questions)})" if found.questions else ""
    about = [("Model", found.model), ("Questions", count(found.questions)), ("Answered wrongly", wrong)]
    st.html(facts([*about, ("Images", count(found.images)), ("Made", minute(found.date))]))
    _headline(found)
    for warning in found.warnings:
        if warning.level == "serious":
            alert(warning.text)
        else:
            st.html(str(Markup('<p class="halp-quiet">{}</p>').format(warning.text)))
    st.html("<h2>Where the risk can be read</h2>")
    st.html(str(Markup('<p class="halp-quiet">{}</p>').format(_SCALE)))
    for drawn in heatmap(found.cells):
        st.html(drawn)
    for title, examples in (("Riskiest answers", found.most_risky), ("Safest answers", found.least_risky)):
        if examples:
            st.html(f"<h2>{title}</h2>")
            st.html(_examples(examples, pictures))


def heatmap(cells: Sequence[Cell]) -> list[str]:
    """HTML: layers down and positions across, then those without a layer; each cell says its number, too."""
    by_place = {(cell.position, cell.layer): cell for cell in cells}
    positions = list(dict.fromkeys(cell.position for cell in cells if cell.layer is not None))
    layers = sorted({cell.layer for cell in cells if cell.layer is not None})
    rows = [[f"layer {layer}", *(_heat(by_place.get((position, layer))) for position in positions)] for layer in layers]
    singles = [[_place(cell.position), _heat(cell)] for cell in cells if cell.layer is None]
    drawn = [table(["", *map(_place, positions)], rows)] if rows else []
    return [*drawn, *([table(["Without a layer", "AUROC"], singles)] if singles else [])]


def pictures(found: ReportFound, images: Path | None, complaints: list[str]) -> dict[str, Markup]:
    """Of the examples, by question id; why one cannot be shown is told once."""
    shown = [*found.most_risky, *found.least_risky]
    if images is None:
        return {}
    return thumbnails(
        (e.question_id for e in shown), lambda question_id: [example_picture(found, question_id, images)], complaints
    )


def _headline(found: ReportFound) -> None:
    told = found.headline
    words = Markup('<p class="halp-risk">{}: AUROC <b>{}</b> {}</p>').format(
        told.title[:1].upper() + told.title[1:], _number(told.auroc.value), _interval(told.auroc.low, told.auroc.high)
    )
    if told.baseline is not None and told.baseline_auroc is not None:
        words += Markup('<p class="halp-quiet">The best baseline, {}, has {}{}.</p>').format(
            told.baseline, _number(told.baseline_auroc.value), _difference(told.difference)
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
