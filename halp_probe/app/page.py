"""Page that `halp-probe app` serves; Streamlit runs this file again at every action of a visitor."""

from __future__ import annotations

import sys

import streamlit as st

from halp_probe.app import chat, history, pictures, results_tab, sidebar, theme
from halp_probe.app.conversation import Session
from halp_probe.app.settings import PageSettings
from halp_probe.app.shelf import Shelf

_HEADING = """<h1>Will it be wrong?</h1>
<p class="halp-quiet">Ask a model about an image. Before it answers, its hidden states show how likely it is to be
wrong.</p>"""


@st.cache_resource(show_spinner=False)
def shelf() -> Shelf:
    """Return the one shelf of all visitors; it holds the model and nothing of theirs."""
    return Shelf()


def main(settings: PageSettings) -> None:
    """Draw the page."""
    st.set_page_config(page_title="halp_probe", layout="centered")
    st.html(theme.STYLE)
    session: Session = st.session_state.setdefault("session", Session())
    chat_tab, second_tab = st.tabs(["Chat", "Results"], key="tab", on_change="rerun")
    with chat_tab:
        st.html(_HEADING)
        with st.spinner("Loading the model…"):
            use = sidebar.show(session, settings, shelf())
    question = st.session_state.pop("suggested", None)
    if use is not None and chat_tab.open:
        question = st.chat_input("Ask about the image", max_chars=2000, submit_mode="disable") or question
    with chat_tab:
        _chat(session, use, question)
    with second_tab:
        results_tab.show(settings)


def _chat(session: Session, use: sidebar.Use | None, question: str | None) -> None:
    if use is None:
        theme.alert(st.session_state.load_error[1])
        return
    if use.active.no_risk:
        theme.alert(use.active.no_risk)
    pictures.choose(session)
    if question is None:
        chat.suggestions(session)
    chat.show(session, use, question)
    _past(session)


def _past(session: Session) -> None:
    turns = session.all_turns
    if not turns:
        return
    with st.container(horizontal=True):
        st.button("New conversation", on_click=session.begin_anew, disabled=not session.turns)
        st.download_button("Download history as CSV", history.as_csv(turns), "halp_probe_history.csv", "text/csv")
        st.button("Forget history", on_click=session.forget_past)
    with st.expander(f"History: {len(turns)} question{'s' * (len(turns) > 1)}"):
        st.html(history.as_html(turns))


main(PageSettings.from_argument(sys.argv[1]))
