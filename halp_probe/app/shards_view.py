"""Folder of shards on the page: its facts, its questions, and the riskiest of them by a probe."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import streamlit as st
from markupsafe import Markup

from halp_probe.app import shards_contents
from halp_probe.app.pictures import thumbnails
from halp_probe.app.shards_contents import QuestionRow, Riskiest, ShardsContents, question_rows, riskiest
from halp_probe.app.shelf import decisive_probe, saved_probes
from halp_probe.app.tables import facts, table
from halp_probe.app.theme import alert
from halp_probe.app.wording import minute, percent
from halp_probe.errors import InputError
from halp_probe.report.wording import count

_RISKIEST = 20  # number of questions shown
_A_PAGE = 20  # questions


def show(contents: ShardsContents, worst: Riskiest | None, pictures: dict[str, Markup]) -> None:
    """Show the folder's facts, its riskiest questions and a page of all."""
    items = [
        ("Model", contents.model),
        ("Questions", count(contents.rows)),
        ("Layers", ", ".join(map(str, contents.layers))),
        ("Representations", count(len(contents.representations))),
        ("Computed in", contents.dtype),
        ("Created", minute(contents.created)),
        ("Not processed", f"{count(contents.failures)}, see failures.csv" if contents.failures else "none"),
    ]
    st.html(facts(items))
    for note in contents.notes:
        st.html(str(Markup('<p class="halp-quiet">{}</p>').format(note)))
    if worst is not None:
        _show_riskiest(worst, pictures)
    st.html("<h2>Questions</h2>")
    st.html('<p class="halp-quiet">Confidence: the probability that the model itself gave its first token.</p>')
    last = -(-contents.rows // _A_PAGE)
    page = int(st.number_input(f"Page of {last}", 1, last, key=f"page of {contents.path}")) if last > 1 else 1
    try:
        st.html(_questions(_rows_of(contents, page), {}))
    except InputError as error:
        alert(str(error))


def _rows_of(contents: ShardsContents, page: int) -> list[QuestionRow]:
    """Return the rows of a page, read when it is turned rather than at every action: large shards take a while."""
    kept = st.session_state.get("results_page")
    if kept is None or kept[0] is not contents or kept[1] != page:
        kept = contents, page, question_rows(contents, (page - 1) * _A_PAGE, _A_PAGE)
        st.session_state.results_page = kept
    rows: list[QuestionRow] = kept[2]
    return rows


def score_riskiest(contents: ShardsContents, probe: str, complaints: list[str]) -> Riskiest | None:
    """Return the riskiest questions by this probe; None, with a complaint, where it cannot read these states."""
    if not probe:
        return None
    try:
        probes = saved_probes(probe)
        return riskiest(contents, probes[decisive_probe(list(probes))], _RISKIEST)
    except InputError as error:
        complaints.append(str(error))
        return None


def pictures(
    contents: ShardsContents, worst: Riskiest | None, images: Path | None, complaints: list[str]
) -> dict[str, Markup]:
    """Return pictures of the riskiest questions by id; the first failure is added to `complaints`."""
    if images is None or worst is None:
        return {}
    wanted = (row.question_id for row in worst.rows)
    return thumbnails(wanted, lambda question_id: shards_contents.pictures(contents, question_id, images), complaints)


def _show_riskiest(worst: Riskiest, pictures: dict[str, Markup]) -> None:
    st.html("<h2>Riskiest questions</h2>")
    words = f"{count(worst.scored)} questions have a risk"
    if worst.unscored:
        words += f", {count(worst.unscored)} have no vector that could be read"
    if worst.trained_on:
        words += f"; the probe was trained on {count(worst.trained_on)} of these images, so it does too well here"
    st.html(f'<p class="halp-quiet">{words}.</p>')
    st.html(_questions(worst.rows, pictures))


def _questions(rows: Iterable[QuestionRow], pictures: dict[str, Markup]) -> str:
    rows = list(rows)
    with_risk = any(row.risk is not None for row in rows)
    columns = [*(["Risk"] if with_risk else []), "Image", "Question", "Answer", "Truth", "Confidence"]
    return table(columns, [_cells(row, pictures, with_risk) for row in rows])


def _cells(row: QuestionRow, pictures: dict[str, Markup], with_risk: bool) -> list[str | Markup]:
    risk = [percent(row.risk) if row.risk is not None else ""] if with_risk else []
    confidence = "" if row.confidence is None else percent(row.confidence)
    image = pictures.get(row.question_id, Markup()) + Markup.escape(row.image_id)
    return [*risk, image, row.question, row.answer, row.truth, confidence]
