"""Things that a question wants counted, and the numbers of an answer that are about them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from halp_probe.labels.lexicon import is_a, mean_same
from halp_probe.labels.normalise import plain, word_set, words_of
from halp_probe.labels.numerals import Numeral, numerals
from halp_probe.labels.stems import same_word

_HOW_MANY = re.compile(
    r"\b(?:how many|number of|count (?:of |the )?(?:number of )?)\s*(?P<part>of (?:the|these|those)\b)?"
    r"(?P<rest>[^?.\n,;]*)",
    re.IGNORECASE,
)
_ENDS_THING = word_set(  # words behind a thing's name
    """
    is are was were do does did can could have has had will would in on at by with without to from near behind under
    over
    above below inside outside around between next beside that which who there visible shown present wearing holding you
    sitting standing playing riding walking lying looking flying seen appear appears depicted and or it here but while
    """
)
_ASKING = word_set("what which how many much when where year number the value")
_QUALITIES = word_set("different total whole visible other more full distinct unique all the a an these those")
_YEAR = re.compile(r"\b(?:(?:which|what) year|when)\b", re.IGNORECASE)
_WHOLE = re.compile(r"\bof (?:the |all |these |those )*$", re.IGNORECASE)
_SEGMENT = re.compile(r"[,;:()\n]|[.!?](?:\s|$)|\b(?:and|while|whereas|but|which)\b")
_REACH = 4  # words behind a number among which its thing is named
_EARLIEST, _LATEST = 1000, 2999


@dataclass(frozen=True)
class Thing:
    """Thing that a question wants counted: words of its name, the head last, and whether a part of them is asked."""

    words: tuple[str, ...]
    partitive: bool

    def is_named(self, word: str) -> bool:
        """Return whether the word is the thing's name, in another form or as a synonym."""
        return same_word(self.words[-1], word) or mean_same(self.words[-1], word)

    def covers(self, word: str) -> bool:
        """Return whether the word names a kind of the thing: women, of people."""
        return is_a(word, self.words[-1])


def asked_thing(question: str) -> Thing | None:
    """Return what a "how many" question wants counted; None for another question."""
    match = _HOW_MANY.search(plain(question))
    if match is None:
        return None
    words = words_of(match["rest"])
    name: list[str] = []
    for word in words:
        if word in _ENDS_THING:
            break
        if word == "of" and name:
            break
        if word not in _QUALITIES and not word.isdigit():
            name.append(word)
    if match["part"] and len(name) > 1 and name[0] in ("two", "three", "four", "five", "six", "seven", "eight"):
        name = name[1:]
    if match["part"] and len(name) > 1:
        name = name[:1]  # "of the people wear hats": the verb follows without a mark
    return Thing(tuple(name), bool(match["part"])) if name else None


def asks_year(question: str) -> bool:
    """Return whether the question wants a year."""
    return _YEAR.search(question) is not None


def is_year(number: Numeral) -> bool:
    """Return whether a number can be a year."""
    return number.value == int(number.value) and _EARLIEST <= number.value <= _LATEST and not number.scaled


def without_echoes(found: Sequence[Numeral], question: str) -> list[Numeral]:
    """Return the numbers that the question does not hold itself; all of them if it holds each."""
    own = {number.value for number in numerals(plain(question))}
    other = [number for number in found if number.value not in own]
    return other or list(found)


def in_likeliest_segment(found: Sequence[Numeral], answer: str, question: str) -> list[Numeral]:
    """Return the numbers of the part of a sentence that has most of the question's words; all, if two parts have."""
    asked = {word for word in words_of(question) if word not in _ENDS_THING and len(word) > 2} - _ASKING
    stops = [0, *(match.end() for match in _SEGMENT.finditer(answer)), len(answer)]
    scored = []
    for start, stop in pairwise(stops):
        inside = [number for number in found if start <= number.start < stop]
        if inside:
            words = words_of(answer[start:stop])
            scored.append((sum(any(same_word(own, word) for word in words) for own in asked), inside))
    scored.sort(key=lambda pair: -pair[0])
    return scored[0][1] if len(scored) > 1 and scored[0][0] > scored[1][0] else list(found)


def about(found: Sequence[Numeral], answer: str, thing: Thing) -> tuple[list[Numeral], bool]:
    """Return the numbers that count the thing, and whether any other number stands in the answer.

    Numbers with the thing's name count before numbers without a noun, and these before kinds of the thing.
    """
    named, bare, kinds = [], [], []
    for number in found:
        if _WHOLE.search(answer, max(0, number.start - 20), number.start):
            continue  # "three of the five dogs"
        words = _words_behind(answer, number)
        if any(thing.is_named(word) for word in words):
            named.append(number)
        elif not words or number.unit:
            bare.append(number)
        elif any(thing.covers(word) for word in words):
            kinds.append(number)
    chosen = named or bare or kinds
    return chosen, len(chosen) < len(found)


def _words_behind(answer: str, number: Numeral) -> list[str]:
    """Return the words of the noun phrase behind a number, up to a verb, a preposition or a mark."""
    clause = re.split(r"[.,;:!?()\n]", answer[number.end : number.end + 60])[0]
    words: list[str] = []
    for word in words_of(clause)[:_REACH]:
        if word in _ENDS_THING or word in ("of", "not", "no"):
            break
        words.append(word)
    return words
