"""All questions of a visitor as a table, to be looked at and to be downloaded."""

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
# What a spreadsheet may read as the beginning of a formula, full-width forms too.
_FORMULA = tuple("=+-@\t\r\n") + tuple(unicodedata.lookup(f"FULLWIDTH {sign}") for sign in _SIGNS)


def row(turn: Turn) -> dict[str, str]:
    """One text for each of COLUMNS; blank where something is not known."""
    question, judged = turn.question, turn.judged
    known = judged is not None and judged.risk is not None
    return {
        "question": question.text,
        "risk": f"{judged.risk:.4f}" if judged and judged.risk is not None else "",
        "threshold": f"{judged.threshold:.4f}" if judged and known else "",
        "abstained": _yes_no(turn.abstained) if known else "",
        "answered_anyway": _yes_no(turn.answered_anyway) if turn.abstained else "",
        "answer": turn.answer,
        "follow_up": _yes_no(judged.follow_up) if judged else "",
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
    """UTF-8 with a byte order mark, by which spreadsheets know it; none of its cells can become a formula there."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    writer.writerows([harmless(cell) for cell in row(turn).values()] for turn in turns)
    return file.getvalue().encode("utf-8-sig")


def harmless(cell: str) -> str:
    """The cell, behind an apostrophe where a spreadsheet would take it for a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA) or cell.lstrip().startswith(_FORMULA) else cell


def as_html(turns: Sequence[Turn]) -> str:
    """The table's main columns, the newest question first."""
    rows = (row(turn) for turn in reversed(turns))
    return table(list(_SHOWN.values()), ([told[column] for column in _SHOWN] for told in rows))


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"
