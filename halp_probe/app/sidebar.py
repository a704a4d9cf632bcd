"""Sidebar: model and probe, the threshold for abstaining, the longest answer."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from halp_probe.app.conversation import Session
from halp_probe.app.settings import Choice, PageSettings
from halp_probe.app.shelf import ActiveModel, Shelf, decisive_probe
from halp_probe.app.wording import percent, place
from halp_probe.errors import InputError
from halp_probe.probes.files import SELECTED_STEM, SavedProbe

_GUESS = 0.5  # threshold for a probe whose card has none; the page says so


@dataclass(frozen=True, kw_only=True)
class Use:
    """Settings with which the next question is asked."""

    active: ActiveModel
    model: str  # with its adapters
    by: str  # name of the probe that decides, blank for none
    probe: str  # the same with its origin
    threshold: float
    max_new_tokens: int


def show(session: Session, settings: PageSettings, shelf: Shelf) -> Use | None:
    """Draw the sidebar; return None while no model is loaded, which the page then says."""
    with st.sidebar:
        st.header("Model")
        choice = _choose(session, settings)
        active = _load(choice, shelf)
        if active is None:
            return None
        st.header("Risk")
        by = _choose_decisive_probe(active)
        probe = f"{choice.probe}: {by}" if len(active.probes) > 1 else choice.probe if by else ""
        threshold = _threshold(active.probes.get(by), probe)
        st.header("Answers")
        longest = st.slider("Longest answer in tokens (pieces of words)", 1, 512, 64, key="max_new_tokens")
    model = " + ".join([active.chat.loaded.checkpoint.name, *choice.model.adapter])
    return Use(active=active, model=model, by=by, probe=probe, threshold=threshold, max_new_tokens=longest)


def _choose(session: Session, settings: PageSettings) -> Choice:
    chosen: Choice = st.session_state.setdefault("choice", settings.choice)
    if settings.open_to_all:
        st.caption(f"{chosen.model.model or chosen.model.adapter[0]}, as chosen by whoever serves this page.")
        return chosen

    def take() -> None:
        typed = st.session_state
        adapters = tuple(part.strip() for part in typed.adapters.split(",") if part.strip())
        typed.choice = chosen.with_names(typed.model.strip(), adapters, typed.probe.strip())
        typed.pop("load_error", None)
        session.begin_anew()

    with st.form("choice_form", border=False):
        st.text_input(
            "Model", chosen.model.model or "", key="model", help="`shapes` is bundled; or a hub name, a folder"
        )
        adapters = ", ".join(chosen.model.adapter)
        st.text_input("Adapter (optional)", adapters, key="adapters", help="A PEFT folder or hub name; several: commas")
        note = "`shapes` for the bundled model's, a saved probe or a folder of them; blank: no risk"
        st.text_input("Probe", chosen.probe, key="probe", help=note)
        st.form_submit_button("Use these", on_click=take, width="stretch")
    return chosen


def _load(choice: Choice, shelf: Shelf) -> ActiveModel | None:
    """Return the model; one that could not be loaded is not tried again until the visitor asks for it."""
    error_before = st.session_state.get("load_error")
    if error_before is None or error_before[0] != choice:
        try:
            return shelf.get(choice)
        except InputError as error:
            st.session_state.load_error = choice, str(error)
    return None


def _choose_decisive_probe(active: ActiveModel) -> str:
    names = list(active.probes)
    if len(names) < 2:
        return "".join(names)

    def words(name: str) -> str:
        read = place(active.probes[name].title)
        return f"★ {read}" if name == SELECTED_STEM else read

    first = names.index(decisive_probe(names))
    why = "Its risk decides whether the model answers. ★: the one that was selected in training."
    chosen: str = st.selectbox("Probe that decides", names, first, format_func=words, key="by", help=why)
    return chosen


def _threshold(probe: SavedProbe | None, key: str) -> float:
    if probe is None:
        st.caption("Without a probe that fits the model there is no risk: every question is answered.")
        return 1.0
    card = probe.threshold.risk if probe.threshold is not None and probe.threshold.found else None
    start = round(100 * (_GUESS if card is None else card), 1)
    chosen = st.slider("Stay silent above this risk, %", 0.0, 100.0, start, 0.1, format="%.1f", key=f"threshold {key}")
    if card is None:
        st.caption(f"The probe has no threshold of its own; {percent(_GUESS)} is a guess.")
        return chosen / 100
    wanted = probe.threshold.max_error if probe.threshold else None
    aim = f", chosen so that at most {percent(wanted)} of the answers given are wrong" if wanted else ""
    st.caption(f"The probe's own: {percent(card)}{aim}.")
    return card if chosen == start else chosen / 100  # the slider holds it to 0.1 % only
