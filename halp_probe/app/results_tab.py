"""The second tab: what a folder of shards or a report tells, and its riskiest questions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st
from markupsafe import Markup

from halp_probe.app import report_view, shards_view
from halp_probe.app.report_found import ReportFound
from halp_probe.app.results import open_results
from halp_probe.app.settings import PageSettings
from halp_probe.app.shards_found import Riskiest, ShardsFound
from halp_probe.app.theme import alert
from halp_probe.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What the visitor opened; pictures by question id."""

    found: ShardsFound | ReportFound
    riskiest: Riskiest | None = None
    pictures: dict[str, Markup] = field(default_factory=dict)
    complaints: tuple[str, ...] = ()  # of the probe or the images, which are no reason to show nothing


def show(settings: PageSettings) -> None:
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
    opened: Opened | None = st.session_state.get("results_opened")
    if opened is None:
        return
    for complaint in opened.complaints:
        alert(complaint)
    if isinstance(opened.found, ReportFound):
        report_view.show(opened.found, opened.pictures)
    else:
        shards_view.show(opened.found, opened.riskiest, opened.pictures)


def _open() -> None:
    """Read it once, when it is asked for; what goes wrong is told until the next try."""
    typed = st.session_state
    path, probe = typed.results_path.strip(), typed.results_probe.strip()
    folder = typed.results_images.strip()
    images = Path(folder) if folder else None
    typed.results_problem = typed.results_opened = None
    try:
        if not path:
            raise InputError("name a folder of shards, a report.json, or the folder of one")
        found = open_results(path)
    except InputError as error:
        typed.results_problem = str(error)
        return
    complaints: list[str] = []
    if isinstance(found, ReportFound):
        pictures = report_view.pictures(found, images, complaints)
        typed.results_opened = Opened(found=found, riskiest=None, pictures=pictures, complaints=tuple(complaints))
        return
    riskiest = shards_view.scored(found, probe, complaints)
    pictures = shards_view.pictures(found, riskiest, images, complaints)
    typed.results_opened = Opened(found=found, riskiest=riskiest, pictures=pictures, complaints=tuple(complaints))
