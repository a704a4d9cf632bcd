"""Rule choice: the one option letter an answer gives, or the option whose text it is."""

from __future__ import annotations

import re

from halp_probe.labels.letters import LETTERS, read_choice
from halp_probe.labels.normalise import bare, plain
from halp_probe.labels.verdict import Verdict, right, unknown, wrong

_MARK = re.compile(r"(?:(?<=\s)|^)[\[(]?([A-Z])[\]).:]\s*(?=\S)", re.MULTILINE)
_LETTER = re.compile(r"(?:option |choice |answer:? )?[\[(]?\s*([A-Za-z])\s*[\])]?[.:]?", re.IGNORECASE)
_LETTER_AND_TEXT = re.compile(r"[\[(]?([A-Z])[\]).:]\s*(\S.*)", re.DOTALL)
_UNLISTED = LETTERS[:8]  # letters that are options although the question lists none


def judge_choice(answer: str, truth: str, question: str) -> Verdict:
    """Judge a clean `answer` by the option that it chooses, as `read_choice` reads it."""
    listed = options(question)
    wanted = option_of(truth, question) or (letter_of(truth, _UNLISTED))
    if wanted is None:
        return unknown("choice", bare(truth), "the ground truth is no option letter")
    choice = read_choice(answer, list(listed.values()) or [""] * len(_UNLISTED))
    if choice.index is None:
        return unknown("choice", wanted, choice.reason)
    said = LETTERS[choice.index]
    return (right if said == wanted else wrong)("choice", said, wanted)


def option_of(truth: str, question: str) -> str | None:
    """Return the letter of the listed option that a ground truth names by letter, by both or by its text; else None."""
    listed = options(question)
    if not listed:
        return None
    if letter := letter_of(truth, "".join(listed)):
        return letter
    both = _LETTER_AND_TEXT.fullmatch(plain(truth))
    if both and both[1] in listed:
        return both[1] if bare(listed[both[1]]) == bare(both[2]) else None
    same = [letter for letter, text in listed.items() if bare(text) == bare(truth)]
    return same[0] if len(same) == 1 else None


def letter_of(truth: str, among: str = _UNLISTED) -> str | None:
    """Return the letter of a ground truth such as "B", "(b)" or "Option B", if it is one of `among`; else None."""
    match = _LETTER.fullmatch(plain(truth))
    return match[1].upper() if match and match[1].upper() in among else None


def options(question: str) -> dict[str, str]:
    """Read the options that a question lists, letter -> text; {} unless they run A, B, … without a gap.

    An example of such a question is "Which animal? A. cat B. dog".
    """
    question = plain(question)
    marks = _in_order(list(_MARK.finditer(question)))
    if len(marks) < 2:
        return {}
    stops = [mark.start() for mark in marks[1:]] + [len(question)]
    return {
        mark[1]: question[mark.end() : stop].partition("\n")[0].strip(" ,;.")
        for mark, stop in zip(marks, stops, strict=True)
    }


def _in_order(marks: list[re.Match[str]]) -> list[re.Match[str]]:
    """Return the marks if they are A, B, … and nothing else; else none."""
    letters = [mark[1] for mark in marks]
    return marks if letters == list(LETTERS[: len(letters)]) else []
