"""Rule number: the one number an answer gives, in digits or words."""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import pairwise

from halp_probe.labels.normalise import bare, plain, sentences, words_of
from halp_probe.labels.numerals import Numeral, numerals, whole_numeral
from halp_probe.labels.refusal import is_refusal
from halp_probe.labels.stems import same_word
from halp_probe.labels.verdict import REFUSAL, Verdict, compare_texts, unknown

_CONTEXT = 120  # characters before a number that may say what it is; keeps long answers linear
_ZERO = Numeral(value=Decimal(0), start=0, end=0, scaled=False)
_DECLARATION = re.compile(  # what stands right before a number that is given as the answer
    r"""(?: \b (?:answer|count|result) \b (?:\ to\ [^.?!\n]{0,60}?)? \s* (?:is|:|=|would\ be) \s*
            (?:that\ )? (?:there\ (?:are|is)\ )?
        | \b total (?:\ number)? (?:\ of\ [a-z]+)? (?:\ is|\ are|,|:)? (?:\ there\ (?:are|is))? (?:\ of)? \s*
        | \\boxed\{\s* | =\s* )
        ["'(]* (?:exactly\ |about\ |approximately\ |around\ |only\ )? $""",
    re.IGNORECASE | re.VERBOSE,
)
_BOUND = re.compile(
    r"\b(?:more than|less than|fewer than|at least|at most|up to|over|under|almost|nearly|not|no|or|between)\s+$"
    r"|n't\s+$",
    re.IGNORECASE,
)
_RANGE = re.compile(r"\s*(?:-|–|—|/|or|to|and)\s*", re.IGNORECASE)
_ANOTHER = re.compile(
    r"\b(?:and|plus|as well as|along with) (?:an?|another|the other|one more)\b|\banother\b|\bone\b(?! of\b)", re.I
)
_NONE = re.compile(
    r"\b(?P<nothing>none|nothing|nobody|no one)\b"
    r"|\b(?:no|not any|not see any|not have any)\s+(?P<things>(?:\w+\s*){1,4})",
    re.IGNORECASE,
)
_NO_COUNT = re.compile(
    r"(?:doubt|idea|way|problem|more|longer|question|information|clear|definite|answer|evidence|indication|sign)\b",
    re.IGNORECASE,
)


def judge_number(answer: str, truth: str, question: str) -> Verdict:
    """Judge a clean `answer`; unknown unless it gives one number, or declares one among several."""
    wanted = _only_number(truth)
    if wanted is None:
        return unknown("number", bare(truth), "the ground truth is no number")
    said = _declared_numbers(answer)
    if len({number.value for number in said}) > 1:
        return unknown("number", wanted.text, "several numbers declared")
    if not said and is_refusal(answer):
        return unknown("number", wanted.text, REFUSAL)
    if not said:
        said, problem = _undeclared_numbers(answer, question)
        if problem:
            return unknown("number", wanted.text, problem)
    if _differs_by_scale(said[0], wanted):
        return unknown("number", wanted.text, "the same digits in another unit", said[0].text)
    return compare_texts("number", said[0].text, wanted.text)


def is_number(truth: str) -> bool:
    """Check if a ground truth is one number and nothing else."""
    return whole_numeral(truth) is not None


def _only_number(truth: str) -> Numeral | None:
    if bare(truth) in ("none", "nothing"):
        return _ZERO
    found = numerals(plain(truth))
    return whole_numeral(truth) or (found[0] if len(found) == 1 else None)


def _undeclared_numbers(answer: str, question: str) -> tuple[list[Numeral], str]:
    """Return the number that the answer is about, or why there is no such number."""
    found = numerals(answer)
    if not found:
        return ([_ZERO], "") if _says_none(answer, question) else ([], "no number could be read")
    if len({number.value for number in found}) > 1:
        return [], "several numbers and none declared"
    if any(_BOUND.search(_before(answer, number)) for number in found):
        return [], "a bound, not a number"
    for sentence in sentences(answer):
        here = numerals(sentence)
        if here and (_ANOTHER.search(sentence, here[0].end) or _is_repeated(sentence, here)):
            return [], "several things counted and no total"
    return found, ""


def _is_repeated(sentence: str, found: list[Numeral]) -> bool:
    """Check for the same number twice in a sentence ("two here and two there"), other than "three (3)"."""
    return any(sentence[one.end : other.start].strip() not in ("(", "") for one, other in pairwise(found))


def _declared_numbers(answer: str) -> list[Numeral]:
    found = numerals(answer)
    declared = []
    for number, after in zip(found, [*found[1:], None], strict=False):
        in_range = after is not None and _RANGE.fullmatch(answer[number.end : after.start])
        if not in_range and (_DECLARATION.search(_before(answer, number)) or _stands_alone(answer, number)):
            declared.append(number)
    return declared


def _before(answer: str, number: Numeral) -> str:
    return answer[max(0, number.start - _CONTEXT) : number.start]


def _stands_alone(answer: str, number: Numeral) -> bool:
    """Check for a line that is only the number, or a number word as its own sentence ("1." may number a list)."""
    start = answer.rfind("\n", 0, number.start) + 1
    line = answer[start:].partition("\n")[0]
    said = answer[number.start : number.end]
    if line.strip("\"'()! ") == said:
        return True
    return start == number.start and said.isalpha() and re.match(r"[.!]\s", answer[number.end :]) is not None


def _says_none(answer: str, question: str) -> bool:
    """Check if the answer says zero: "no dogs", "there are none".

    If the question is known, "no X" must be about a thing that it names.
    """
    answer = re.sub(r"n't\b", " not", answer)
    answer = re.sub(r"^no\s*[,.;:]\s*", "", answer, flags=re.IGNORECASE)
    question_words = [word for word in words_of(question) if len(word) > 2]
    for match in _NONE.finditer(answer):
        if match["nothing"]:
            return True
        if not question_words:
            return not _NO_COUNT.match(match["things"])
        if any(same_word(thing, word) for thing in words_of(match["things"]) for word in question_words):
            return True
    return False


def _differs_by_scale(said: Numeral, wanted: Numeral) -> bool:
    """Check for 50% against 0.5, or 2 million against 2.

    The text does not show if that is the right value in another unit, or a wrong value.
    """
    if said.scaled == wanted.scaled or said.value == wanted.value or not said.value or not wanted.value:
        return False
    small, large = sorted((abs(said.value), abs(wanted.value)))
    return large / small in (100, 10**3, 10**6, 10**9)
