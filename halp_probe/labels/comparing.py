"""Statements that answer a yes/no question by a comparison, a number or a place: "the cup is larger than the pot"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

from halp_probe.labels.counted import Thing, about
from halp_probe.labels.lexicon import are_opposites, mean_same
from halp_probe.labels.negation import NEUTRAL, RELATIONS, Clause
from halp_probe.labels.normalise import word_set
from halp_probe.labels.numerals import numerals
from halp_probe.labels.stems import NUMBER_WORDS, same_word

_IS = word_set("is are was were appears seems looks")
_COUNT = re.compile(
    r"\b(?:are|is) there (?:exactly |a total of |altogether )?(?P<number>\w+) (?P<thing>[\w ]+?)"
    r"(?: (?:in|on|at|of|visible|shown)\b|\?|$)",
    re.IGNORECASE,
)
_OPEN_COUNT = re.compile(r"\b(?:than|least|most|or|not|no)\b|n't\b", re.IGNORECASE)
_WITH_E = word_set("larg wid clos nic saf lat rar pal")  # their adjectives end in e
_REVERSED = MappingProxyType(
    {
        one: other
        for pair in (("left", "right"), ("above", "below"), ("inside", "outside"), ("top", "bottom"))
        for one, other in (pair, pair[::-1])
    }
)


@dataclass(frozen=True)
class _Comparison:
    subject: tuple[str, ...]
    degree: str  # "larger", without its ending
    than: tuple[str, ...]


def compared_polarity(clause: Clause, asked: Sequence[str]) -> str | None:
    """Return "yes" or "no" if the clause compares the things that the question compares; else None."""
    question, said = _comparison(asked[1:]), _comparison(clause.words)
    if question is None or said is None or clause.negators():
        return None
    same = same_word(question.degree, said.degree) or mean_same(question.degree, said.degree)
    if not same and not are_opposites(question.degree, said.degree):
        return None
    if _match(question.subject, said.subject) and _match(question.than, said.than):
        return "yes" if same else "no"
    if _match(question.subject, said.than) and _match(question.than, said.subject):
        return "no" if same else "yes"
    return None


def counted_polarity(sentence: str, question: str) -> str | None:
    """Return "yes" or "no" if the question asks for a number of things, and the sentence counts them; else None."""
    asked = _COUNT.search(question)
    if asked is None:
        return None
    wanted = numerals(asked["number"])
    words = asked["thing"].lower().split()
    if len(wanted) != 1 or (asked["number"].lower() not in NUMBER_WORDS and not asked["number"].isdigit()):
        return None
    said, _ = about(numerals(sentence), sentence, Thing(tuple(words), partitive=False))
    if len({number.value for number in said}) != 1 or _OPEN_COUNT.search(sentence):
        return None
    return "yes" if said[0].value == wanted[0].value else "no"


def is_reversed_place(clause: Clause, asked: Sequence[str], content: Sequence[str]) -> bool:
    """Return whether a clause restates the question with the opposite side: right, of "left of the sofa?"."""
    sides = [word for word in asked if word in _REVERSED]
    if len(sides) != 1 or clause.negators() or sides[0] in clause.words or _REVERSED[sides[0]] not in clause.words:
        return False
    things = [word for word in content if word not in RELATIONS and word not in _REVERSED]
    places = [next((n for n, word in enumerate(clause.words) if same_word(word, own)), -1) for own in things]
    return len(things) > 1 and min(places) >= 0 and places == sorted(places)


def _comparison(words: Sequence[str]) -> _Comparison | None:
    if words.count("than") != 1:
        return None
    at = words.index("than")
    degree = _base(words[at - 1]) if at else ""
    subject = tuple(word for word in words[: at - 1] if word not in NEUTRAL and word not in _IS)
    than = []
    for word in words[at + 1 :]:
        if word in RELATIONS:
            break
        if word not in NEUTRAL:
            than.append(word)
    return _Comparison(subject, degree, tuple(than)) if degree and subject and than else None


def _base(comparative: str) -> str:
    """Return the adjective of a comparative: "bigger" -> "big"; "" for a word that is none."""
    if not comparative.endswith("er") or len(comparative) < 5:
        return ""
    root = comparative[:-2]
    if root.endswith("i"):
        return root[:-1] + "y"
    if len(root) > 3 and root[-1] == root[-2] and root[-1] not in "ls":
        return root[:-1]
    return comparative[:-1] if root in _WITH_E else root


def _match(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether two names are the same, word by word."""
    return len(one) == len(other) and all(same_word(a, b) for a, b in zip(one, other, strict=True))
