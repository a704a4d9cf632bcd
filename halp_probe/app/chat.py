"""Conversation on the page: for each question first its risk, then the answer or an abstention."""

from __future__ import annotations

import datetime

import streamlit as st

from halp_probe.app.chart import Reading, chart
from halp_probe.app.conversation import Question, RiskAssessment, Session, State, Turn
from halp_probe.app.gauge import gauge
from halp_probe.app.shelf import ActiveModel, report_out_of_memory
from halp_probe.app.sidebar import Use
from halp_probe.app.theme import alert, palette
from halp_probe.app.wording import plain
from halp_probe.errors import InputError

_NOTHING = "(The model said nothing.)"
_CUT_OFF = "The answer was cut off here: it reached the limit that is set in the sidebar."
# Scrolls the newest question to the top once its risk is drawn. The number is the turn's: the same script runs once.
_TO_THE_QUESTION = """<script>setTimeout(() => {{
  const said = document.querySelectorAll('[data-testid="stChatMessage"]');
  said[2 * {} - 2]?.scrollIntoView({{block: "start"}});
}}, 600);</script>"""


def show(session: Session, use: Use, question: str | None) -> None:
    """Show all turns, then the new question; an answer that was interrupted is continued first."""
    for turn in session.turns:
        _show(turn, use.active, newest=turn is session.turns[-1] and question is None)
    if question is not None:
        with st.chat_message("user"):
            _text(question)
        with st.chat_message("assistant"):
            with st.spinner("Reading the question, before any answer…"):
                turn = _read(session, use, question)
                session.add(turn)
            st.html(_TO_THE_QUESTION.format(len(session.turns)), unsafe_allow_javascript=True)
            _reply(turn, use.active, newest=True)


def suggestions(session: Session) -> None:
    """Show questions to begin with, where the picture has some."""
    if session.picture is None or session.turns or not session.picture.truths:
        return
    st.html('<div class="halp-quiet">Ask, for instance:</div>')
    with st.container(horizontal=True, key="suggestions"):
        for text in session.picture.truths:
            st.button(text, key=f"ask {text}", on_click=lambda text=text: st.session_state.update(suggested=text))


def _read(session: Session, use: Use, text: str) -> Turn:
    """Read the question; return its turn with the risk, or with why it could not be read."""
    picture = session.picture
    assert picture is not None
    now = datetime.datetime.now(datetime.timezone.utc)
    truth = picture.truths.get(text)
    question = Question(
        text=text,
        picture=picture.name,
        truth=truth,
        model=use.model,
        probe=use.probe,
        conversation=session.conversation,
        time=now,
    )
    try:
        with report_out_of_memory():
            asked = use.active.chat.ask([picture.image], text, session.history, max_new_tokens=use.max_new_tokens)
    except InputError as error:
        return Turn(question=question, state=State.FAILED, error=str(error))
    return Turn(
        question=question,
        assessment=RiskAssessment(risks=asked.risks, by=use.by, threshold=use.threshold, follow_up=asked.follow_up),
        asked=asked,
    )


def _show(turn: Turn, active: ActiveModel, newest: bool) -> None:
    with st.chat_message("user"):
        _text(turn.question.text)
    with st.chat_message("assistant"):
        _reply(turn, active, newest)


def _reply(turn: Turn, active: ActiveModel, newest: bool) -> None:
    _risk(turn)
    if turn.state is State.ABSTAINED:
        _silence(turn, newest)
    _risk_by_layer(turn, active, newest)
    if turn.state is State.ANSWERING:
        _answer(turn)
    elif turn.state is State.ANSWERED:
        _text(turn.answer or _NOTHING)
    if turn.state is State.FAILED:
        _text(turn.answer)
        alert(turn.error)
    if turn.cut_off:
        st.html(f'<div class="halp-quiet">{_CUT_OFF}</div>')
    if turn.state is State.ANSWERED and turn.question.truth is not None:
        st.html(f'<div class="halp-quiet">True answer: {plain(turn.question.truth)}</div>')


def _risk(turn: Turn) -> None:
    assessment = turn.assessment
    if assessment is not None and assessment.risk is None:
        st.html('<div class="halp-quiet">No risk is known for this answer.</div>')
    elif assessment is not None:
        st.html(gauge(assessment))


def _risk_by_layer(turn: Turn, active: ActiveModel, newest: bool) -> None:
    assessment = turn.assessment
    if assessment is None or len(assessment.risks) < 2:
        return
    readings = [
        Reading(representation=active.probes[name].title, risk=risk, decides=name == assessment.by)
        for name, risk in assessment.risks.items()
    ]
    with st.expander("Risk by layer: where in the model it can be read", expanded=newest):
        st.html(chart(readings, assessment.threshold, palette()))


def _answer(turn: Turn) -> None:
    """Stream the answer below its risk, which is on the page by now."""
    slot = st.empty()
    st.empty()  # replaces the button that asked for it
    if turn.pieces is None and turn.asked is not None:
        turn.pieces = turn.asked.stream()
    try:
        while (piece := _next(turn)) is not None:
            turn.answer += piece
            slot.html(_html(turn.answer))
    except InputError as error:
        turn.fail(str(error))
        slot.empty()
        return
    turn.finish()
    slot.html(_html(turn.answer or _NOTHING))


def _next(turn: Turn) -> str | None:
    with report_out_of_memory():
        return next(turn.pieces or iter(()), None)


def _silence(turn: Turn, newest: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(_html("I would rather not answer: this is above the threshold."), width="content")
        if newest:  # later questions would stand before its answer
            st.button("Answer anyway", key="answer anyway", on_click=turn.answer_anyway)


def _text(text: str) -> None:
    st.html(_html(text))


def _html(text: str) -> str:
    return f'<div class="halp-text">{plain(text)}</div>'
