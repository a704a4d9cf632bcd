"""Rule number: the one number an answer gives, in digits or words, with or without a unit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import pairwise

from halp_probe.labels.counted import about, asked_thing, asks_year, in_likeliest_segment, is_year, without_echoes
from halp_probe.labels.normalise import bare, plain, sentences, words_of
from halp_probe.labels.numerals import Numeral, fraction, numerals, whole_numeral
from halp_probe.labels.numerals_abroad import numbers_abroad
from halp_probe.labels.refusal import is_refusal
from halp_probe.labels.stems import same_word
from halp_probe.labels.units import PERCENT, convert, unit_asked
from halp_probe.labels.verdict import REFUSAL, Verdict, right, unknown, wrong

_CONTEXT = 120  # characters before a number that may say what it is; keeps long answers linear
_ZERO = Numeral(value=Decimal(0), start=0, end=0, scaled=False)
_ONE = Numeral(value=Decimal(1), start=0, end=0, scaled=False)
_TWO = Numeral(value=Decimal(2), start=0, end=0, scaled=False)
_DECLARATION = re.compile(  # what stands right before a number that is given as the answer
    r"""(?: \b (?:answer|count|result) \b (?:\ to\ [^.?!\n]{0,60}?)? \s* (?:is|:|=|would\ be) \s*
            (?:that\ )? (?:there\ (?:are|is)\ )?
        | \b total (?:\ number)? (?:\ of\ [a-z]+)? (?:\ is|\ are|,|:)? (?:\ there\ (?:are|is))? (?:\ of)? \s*
        | \b (?:makes?|making|in\ total|altogether|all\ together),? \s
        | \\boxed\{\s* )
        ["'(]* (?:exactly\ |about\ |approximately\ |around\ |only\ )? $""",
    re.IGNORECASE | re.VERBOSE,
)
_BELOW_ZERO = re.compile(
    r"(\d[\d.]*\s*(?:°\s?[CF]?|degrees?(?: celsius| fahrenheit)?)?)\s*below (?:zero|freezing)", re.IGNORECASE
)
_RESULT = re.compile(r"=\s*(-?\d+\s*/\s*\d+)[\s.$]*$")
_EQUALS = re.compile(r"[=≈]\s*[$€£]?\s*$")
_OPERATOR = re.compile(r"\s*(?:[*×·+/÷^]|[-–−]\s|[a-z]\b\s*[+=])")
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
_LONE = re.compile(r"\b(?:an? )?(?:single|lone|sole|solitary)\s+(?P<things>(?:\w+\s*){1,3})", re.IGNORECASE)
_ONE_OF = re.compile(r"^\W*(?:only )?one of the\b", re.IGNORECASE)
_ADDED = re.compile(r"[:;,(—–-]\s*$")
_NAMED_PARTS = tuple(
    (re.compile(rf"\b{name}\b", re.IGNORECASE), value)
    for name, value in (
        ("three[ -]quarters?", Fraction(3, 4)),
        ("two[ -]thirds?", Fraction(2, 3)),
        ("(?<!three )(?<!three-)(?:a |one )?quarter", Fraction(1, 4)),
        ("(?:a |one )third", Fraction(1, 3)),
        ("half", Fraction(1, 2)),
    )
)
_WRITTEN_PART = re.compile(r"(?<![\d/.])-?\d+\s*/\s*\d+(?![\d/])")
_PAIR = re.compile(r"\b(?:a )?(?:pair|couple) of (?P<things>(?:\w+\s*){1,3})", re.IGNORECASE)
_PAIRED = re.compile(r"\b(?:shoe|boot|glove|sock|glasses|scissors|pants|trousers|jeans|shorts|earring|goggle)", re.I)
_ROUNDING = 100  # a number in another unit lies within this part of the truth
_ON_AXIS = re.compile(  # what charts show, whose axis may count millions
    r"\b(?:values?|amount|sales|revenue|profit|exports?|imports?|gdp|population|production|spending|budget|income|price"
    r"|cost|average|total|bar|line|chart|graph)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Tolerance:
    """Distance that a number may have from the truth: `relative` to it (0.05 = 5 %), or none at so many `decimals`."""

    relative: float = 0.0
    decimals: int | None = None


EXACT = Tolerance()


def judge_number(answer: str, truth: str, question: str, tolerance: Tolerance = EXACT) -> Verdict:
    """Judge a clean `answer`; unknown unless it gives one number, or declares one among several."""
    part = fraction(truth)
    wanted = _only_number(truth)
    answer = numbers_abroad(_BELOW_ZERO.sub(r"minus \1", answer))
    own = fraction(answer) or _last_fraction(answer)
    if part is None and wanted is not None and own is not None and own.denominator != 1:
        part, answer = _value(wanted), f"{own.numerator}/{own.denominator}"
    if wanted is not None and wanted.unit == PERCENT and _named_part(answer):
        part = _value(wanted)
    if part is not None:
        return _judge_fraction(answer, truth, part, tolerance)
    if wanted is None:
        return unknown("number", bare(truth), "the ground truth is no number")
    said = _declared_numbers(answer, question)
    if len({number.value for number in said}) > 1:
        return unknown("number", wanted.text, "several numbers declared")
    if not said and is_refusal(answer):
        return unknown("number", wanted.text, REFUSAL)
    if not said:
        said, problem = _undeclared_numbers(answer, question)
        if problem:
            return unknown("number", wanted.text, problem)
    return _compare(said[0], wanted, question, tolerance)


def is_number(truth: str) -> bool:
    """Check if a ground truth is one number, with a unit or without, or a fraction, and nothing else."""
    return whole_numeral(truth) is not None or fraction(truth) is not None


def _only_number(truth: str) -> Numeral | None:
    if bare(truth) in ("none", "nothing"):
        return _ZERO
    found = numerals(plain(truth))
    return whole_numeral(truth) or (found[0] if len(found) == 1 else None)


def _compare(said: Numeral, wanted: Numeral, question: str, tolerance: Tolerance) -> Verdict:
    value, target = said.value, wanted.value
    unit = wanted.unit or (unit_asked(question) if said.unit and said.unit != PERCENT else "")
    if said.unit == PERCENT and not wanted.unit and value != target and value == 100 * target:
        if "percent" in question.lower() or "%" in question:
            return unknown("number", wanted.text, "the same digits in another unit", said.text)
        value = value / 100
    elif wanted.unit == PERCENT and not said.unit and value != target and 100 * value == target:
        value = 100 * value
    elif said.unit and unit and said.unit != unit and PERCENT not in (said.unit, unit):
        converted = convert(value, said.unit, unit)
        if converted is None:
            return unknown("number", wanted.text, "a number of another unit", said.text)
        value = target if _rounds_to(said, unit, converted, target) else converted
    elif _differs_by_scale(said, wanted):
        if said.scaled and not wanted.scaled and _ON_AXIS.search(question):
            value = target  # "3.2 million" of a chart whose axis is in millions
        else:
            return unknown("number", wanted.text, "the same digits in another unit", said.text)
    same = _near(value, target, tolerance)
    return (right if same else wrong)("number", said.text, wanted.text)


def _rounds_to(said: Numeral, unit: str, converted: Decimal, target: Decimal) -> bool:
    """Return whether a number in another unit is the truth up to its own rounding: 394 feet for 120 m."""
    step = Decimal(1).scaleb(int(said.value.as_tuple().exponent))
    more = convert(said.value + step / 2, said.unit, unit)
    return more is not None and abs(converted - target) <= min(abs(more - converted), abs(target) / _ROUNDING)


def _near(value: Decimal, wanted: Decimal, tolerance: Tolerance) -> bool:
    if tolerance.decimals is not None:
        step = Decimal(1).scaleb(-tolerance.decimals)
        return value.quantize(step, ROUND_HALF_UP) == wanted.quantize(step, ROUND_HALF_UP)
    return abs(value - wanted) <= Decimal(str(tolerance.relative)) * abs(wanted)


def _judge_fraction(answer: str, truth: str, wanted: Fraction, tolerance: Tolerance) -> Verdict:
    """Judge where truth or answer is a fraction: equal values are right, in fractions, decimals or per cent.

    A decimal of two places or more is equal where it is the fraction rounded to them: 0.33 and 33 %, for 1/3.
    """
    written = {own for text in _WRITTEN_PART.findall(answer) if (own := fraction(text)) is not None}
    number = None if written else _only_said(answer)
    said = _value(number) if number is not None else written.pop() if len(written) == 1 else _named_part(answer)
    if said is None:
        return unknown("number", bare(truth), REFUSAL if is_refusal(answer) else "no fraction could be read")
    exact = said == wanted or (number is not None and _is_rounded(number, wanted))
    if exact or _near(_decimal(said), _decimal(wanted), tolerance):
        return right("number", str(said), bare(truth))
    if number is not None and _is_rounded(number, wanted, places=1):
        return unknown("number", bare(truth), "a value rounded to one place", str(said))
    if fraction(truth) is None:
        return unknown("number", bare(truth), "a fraction, where the ground truth is none", str(said))
    return wrong("number", str(said), bare(truth))


def _is_rounded(number: Numeral, wanted: Fraction, places: int = 2) -> bool:
    """Return whether a decimal of at least this many places is the fraction, rounded to its own."""
    own = -int(number.value.as_tuple().exponent) + (2 if number.unit == PERCENT else 0)
    return own >= places and abs(_value(number) - wanted) <= Fraction(1, 2 * 10**own)


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)


def _last_fraction(answer: str) -> Fraction | None:
    """Return the fraction with which a calculation ends: "t = 10/4 = 5/2"."""
    match = _RESULT.search(answer)
    return fraction(match[1]) if match else None


def _named_part(answer: str) -> Fraction | None:
    """Return the one fraction that a text without digits names in words: "a quarter"; no bound ("over half")."""
    found = [(match, value) for pattern, value in _NAMED_PARTS for match in pattern.finditer(answer)]
    bounds = any(_BOUND.search(answer[: match.start()]) for match, _ in found)
    return None if bounds or len(found) != 1 or re.search(r"\d", answer) else found[0][1]


def _only_said(answer: str) -> Numeral | None:
    """Return the number that the answer declares, or its only one; None where words name a part ("one quarter")."""
    found = _declared_numbers(answer) or numerals(answer)
    return found[0] if len({_value(number) for number in found}) == 1 and _named_part(answer) is None else None


def _value(number: Numeral) -> Fraction:
    return Fraction(number.value) / (100 if number.unit == PERCENT else 1)


def _undeclared_numbers(answer: str, question: str) -> tuple[list[Numeral], str]:
    """Return the number that the answer is about, or why there is no such number."""
    found = without_echoes(numerals(answer), question)
    thing = asked_thing(question)
    if thing is not None and thing.partitive and _ONE_OF.match(answer):
        return [_ONE], ""
    if asks_year(question) and (years := [number for number in found if is_year(number)]):
        found = years
    others = False
    if thing is not None:
        found, others = about(found, answer, thing)
    if not found or others:
        if _says_none(answer, question) and not found:
            return [_ZERO], ""
        if not found and _says_lone(answer, question):
            return [_ONE], ""
        if not found and any(_is_asked(pair["things"], question) for pair in _PAIR.finditer(answer)):
            return ([], "a pair") if _PAIRED.search(question) else ([_TWO], "")
        if not found:
            return [], "no number of what was asked" if others else "no number could be read"
    if len({number.value for number in found}) > 1:
        found = in_likeliest_segment(found, answer, question)
    if len({number.value for number in found}) > 1:
        total = _total(answer, found)
        return ([total], "") if total else ([], "several numbers and none declared")
    return found, _doubt(answer, found, counted=thing is not None)


def _doubt(answer: str, found: Sequence[Numeral], *, counted: bool) -> str:
    """Return why the only number that was found may not be the answer; "" if nothing speaks against it."""
    if any(_BOUND.search(_before(answer, number)) for number in found):
        return "a bound, not a number"
    listed = len(sentences(answer)) > 1 or len(numerals(answer)) > 1
    if found[-1].end == len(answer) and listed and _ADDED.search(_before(answer, found[-1])[-30:]):
        return "it ends within a list"
    for sentence in sentences(answer):
        here = [number for number in numerals(sentence) if any(number.value == one.value for one in found)]
        if here and (_ANOTHER.search(sentence, here[0].end) or _is_repeated(sentence, here)):
            named = counted and re.match(r"\W*there (?:are|is)\b", sentence, re.IGNORECASE) and here[0].value > 1
            if not named or _is_repeated(sentence, here):
                return "several things counted and no total"
    return ""


def _total(answer: str, found: Sequence[Numeral]) -> Numeral | None:
    """Return the first number if the others, behind a colon or a bracket, add up to it: "5 people: 3 women, 2 men"."""
    first, *others = numerals(answer)
    parts = {number.value for number in others}
    if first.value in parts or sum(number.value for number in others) != first.value or len(others) < 2:
        return None
    return first if first.value in {number.value for number in found} else None


def _is_repeated(sentence: str, found: Sequence[Numeral]) -> bool:
    """Check for the same number twice in a sentence ("two here and two there"), other than "three (3)"."""
    return any(sentence[one.end : other.start].strip() not in ("(", "") for one, other in pairwise(found))


def _declared_numbers(answer: str, question: str = "") -> list[Numeral]:
    """Return the numbers that are declared as the answer; the last result of a calculation if none is."""
    found, own = numerals(answer), {number.value for number in numerals(plain(question))}
    declared, results = [], []
    for number, after in zip(found, [*found[1:], None], strict=False):
        if after is not None and _RANGE.fullmatch(answer[number.end : after.start]):
            continue
        before = _before(answer, number)
        if _DECLARATION.search(before) or _stands_alone(answer, number):
            declared.append(number)
        elif _EQUALS.search(before) and not _OPERATOR.match(answer, number.end):
            results.append(number)
    results = [number for number in results if number.value not in own]
    last = [number for number in results if "\n" not in answer[number.end :].strip("\n ")][-1:]
    return declared or (last if len({number.value for number in results}) > 1 else results)


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
    return any(match["nothing"] or _is_asked(match["things"], question) for match in _NONE.finditer(answer))


def _says_lone(answer: str, question: str) -> bool:
    """Check if the answer says that there is one: "a single sheep"."""
    return any(_is_asked(match["things"], question) for match in _LONE.finditer(answer))


def _is_asked(things: str, question: str) -> bool:
    """Check that words behind a "no" or "single" name a thing of the question; any thing, if there is no question."""
    own = [word for word in words_of(question) if len(word) > 2]
    if not own:
        return not _NO_COUNT.match(things)
    return any(same_word(thing, word) for thing in words_of(things) for word in own)


def _differs_by_scale(said: Numeral, wanted: Numeral) -> bool:
    """Check for 50% against 0.5, or 2 million against 2.

    The text does not show if that is the right value in another unit, or a wrong value.
    """
    if said.scaled == wanted.scaled or said.value == wanted.value or not said.value or not wanted.value:
        return False
    small, large = sorted((abs(said.value), abs(wanted.value)))
    return large / small in (100, 10**3, 10**6, 10**9)
