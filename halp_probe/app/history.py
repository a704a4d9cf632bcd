"""Table of all questions of a visitor, to view and to download."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Sequence

from halp_probe.app.conversation import State, Turn
from halp_probe.app.tables import table

COLUMNS = (
    "question",
    "risk",
    "threshold",
    "abstained",
    "answered_anyway",
    "answer",
    "follow_up",
    "model",
    "probe",
    "image",
    "conversation",
    "time",
    "note",
)
_SHOWN = {
    "question": "Question",
    "risk": "Risk",
    "threshold": "Threshold",
    "abstained": "Abstained",
    "answered_anyway": "Answered anyway",
    "answer": "Answer",
    "image": "Image",
    "time": "Time (UTC)",
}
_SIGNS = ("EQUALS SIGN", "PLUS SIGN", "HYPHEN-MINUS", "COMMERCIAL AT")
# Beginnings that a spreadsheet may read as a formula, full-width forms included.
_FORMULA = tuple("=+-@\t\r\n") + tuple(unicodedata.lookup(f"FULLWIDTH {sign}") for sign in _SIGNS)


def row(turn: Turn) -> dict[str, str]:
    """Return one text for each of COLUMNS; blank where something is not known."""
    question, assessment = turn.question, turn.assessment
    has_risk = assessment is not None and assessment.risk is not None
    return {
        "question": question.text,
        "risk": f"{assessment.risk:.4f}" if assessment and assessment.risk is not None else "",
        "threshold": f"{assessment.threshold:.4f}" if assessment and has_risk else "",
        "abstained": _yes_no(turn.abstained) if has_risk else "",
        "answered_anyway": _yes_no(turn.answered_anyway) if turn.abstained else "",
        "answer": turn.answer,
        "follow_up": _yes_no(assessment.follow_up) if assessment else "",
        "model": question.model,
        "probe": question.probe,
        "image": question.picture,
        "conversation": str(question.conversation),
        "time": question.time.strftime("%Y-%m-%d %H:%M:%S"),
        "note": _note(turn),
    }


def _note(turn: Turn) -> str:
    if turn.state is State.FAILED:
        return turn.error
    return turn.state.value if turn.state is State.ANSWERING else "cut off" if turn.cut_off else ""


def as_csv(turns: Sequence[Turn]) -> bytes:
    """Return UTF-8 with a byte order mark, for spreadsheets; none of its cells can become a formula there."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    writer.writerows([defuse(cell) for cell in row(turn).values()] for turn in turns)
    return file.getvalue().encode("utf-8-sig")


def defuse(cell: str) -> str:
    """Return the cell, after an apostrophe where a spreadsheet would take it for a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA) or cell.lstrip().startswith(_FORMULA) else cell


def as_html(turns: Sequence[Turn]) -> str:
    """Return the table's main columns as HTML, the newest question first."""
    rows = (row(turn) for turn in reversed(turns))
    return table(list(_SHOWN.values()), ([cells[column] for column in _SHOWN] for cells in rows))


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"
