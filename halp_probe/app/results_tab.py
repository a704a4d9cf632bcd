"""Second tab: a folder of shards or a report, and its riskiest questions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st
from markupsafe import Markup

from halp_probe.app import report_view, shards_view
from halp_probe.app.report_contents import ReportContents
from halp_probe.app.results import open_results
from halp_probe.app.settings import PageSettings
from halp_probe.app.shards_contents import Riskiest, ShardsContents
from halp_probe.app.theme import alert
from halp_probe.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Results:
    """Results that the visitor opened; pictures by question id."""

    contents: ShardsContents | ReportContents
    riskiest: Riskiest | None = None
    pictures: dict[str, Markup] = field(default_factory=dict)
    complaints: tuple[str, ...] = ()  # about the probe or the images; the rest is shown all the same


def show(settings: PageSettings) -> None:
    """Show the tab."""
    st.html("<h1>What was found</h1>")
    if settings.open_to_all:
        st.html('<p class="halp-quiet">Folders of this machine open only where the page is served to it alone.</p>')
        return
    with st.form("results", border=False):
        st.text_input("Folder of shards, or a report", key="results_path", placeholder="output or probes/report.json")
        left, right = st.columns(2)
        left.text_input("Probe (optional, for shards)", key="results_probe", placeholder="shapes, or a file or folder")
        right.text_input("Folder of the images (optional)", key="results_images")
        st.form_submit_button("Open", on_click=_open)
    if problem := st.session_state.get("results_problem"):
        alert(problem)
    opened: Results | None = st.session_state.get("results_opened")
    if opened is None:
        return
    for complaint in opened.complaints:
        alert(complaint)
    if isinstance(opened.contents, ReportContents):
        report_view.show(opened.contents, opened.pictures)
    else:
        shards_view.show(opened.contents, opened.riskiest, opened.pictures)


def _open() -> None:
    """Read the results once, when asked to; an error is shown until the next try."""
    typed = st.session_state
    path, probe = typed.results_path.strip(), typed.results_probe.strip()
    folder = typed.results_images.strip()
    images = Path(folder) if folder else None
    typed.results_problem = typed.results_opened = None
    try:
        if not path:
            raise InputError("name a folder of shards, a report.json, or the folder of one")
        contents = open_results(path)
    except InputError as error:
        typed.results_problem = str(error)
        return
    complaints: list[str] = []
    if isinstance(contents, ReportContents):
        pictures = report_view.pictures(contents, images, complaints)
        typed.results_opened = Results(
            contents=contents, riskiest=None, pictures=pictures, complaints=tuple(complaints)
        )
        return
    riskiest = shards_view.score_riskiest(contents, probe, complaints)
    pictures = shards_view.pictures(contents, riskiest, images, complaints)
    typed.results_opened = Results(
        contents=contents, riskiest=riskiest, pictures=pictures, complaints=tuple(complaints)
    )
