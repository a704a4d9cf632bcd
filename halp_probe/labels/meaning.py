"""Texts that mean the truth in other words: forms of its words, exact synonyms, kinds of it, the same place."""

from __future__ import annotations

import re

from halp_probe.labels.lexicon import is_a, is_word, mean_same
from halp_probe.labels.negation import NEGATORS, NEUTRAL, RELATIONS, Clause, clauses
from halp_probe.labels.normalise import word_set, words_of
from halp_probe.labels.stems import is_derived, same_word

_ARTICLES = ("a", "an", "the")
_PLACES = tuple(  # prepositions that say the same of a place
    map(
        word_set,
        (
            "on atop upon onto top",
            "in inside within into",
            "under beneath underneath below",
            "near beside by next alongside",
            "above over",
        ),
    )
)
_ON_TOP = re.compile(r"\bon (?:the )?top of\b|\bat the top of\b", re.IGNORECASE)
_SPREAD = 1  # words more than the truth has that may stand among its words
_VALUES = 3  # words of a truth that may be said in other words


def means(answer: str, truth: list[str], question: str) -> str:
    """Return how a clause of the answer says the truth in other words, without a negation; "" if none does."""
    if not 0 < len(truth) <= _VALUES:
        return ""
    if len(truth) > 1 and is_word(" ".join(truth)):
        truth = [" ".join(truth)]
    for sentence in clauses(_ON_TOP.sub("on", answer)):
        for clause in sentence:
            if not clause.negators() and "or" not in clause.words and _clause_means(clause, truth, question):
                return "says it in other words"
    return ""


def _clause_means(clause: Clause, truth: list[str], question: str) -> bool:
    words = [word for word in clause.words if word not in _ARTICLES]
    if truth[0] in RELATIONS and len(truth) > 1:
        return _same_place(words, truth)
    if len(truth) > 1 and any(word.isdigit() for word in truth):
        return False  # their order counts: "2-3" is not "3-2"
    width = len(truth) + (_SPREAD if len(truth) > 1 else 0)
    return any(
        "and" not in words[start : start + width]
        and all(
            any(_is(words, place, own, question) for place in range(start, min(len(words), start + width)))
            for own in truth
        )
        for start in range(len(words))
    )


def _same_place(words: list[str], truth: list[str]) -> bool:
    """Check for the same place with an equal preposition: "on top of the bed", for "on the bed"."""
    preposition, *place = truth
    place = [word for word in place if word not in RELATIONS] or place
    same = next((group for group in _PLACES if preposition in group), frozenset((preposition,)))
    for start in range(len(words)):
        behind = words[start : start + len(place)]
        if len(behind) == len(place) and all(
            same_word(one, own) or mean_same(one, own) for one, own in zip(behind, place, strict=True)
        ):
            before = [word for word in words[max(0, start - 3) : start] if word in RELATIONS - {"of", "to"}]
            if before and before[-1] in same:
                return True
    return False


def _is(words: list[str], place: int, own: str, question: str) -> bool:
    """Return whether a word means `own`; a synonym or a kind counts only as a noun phrase's last word."""
    word = words[place]
    if same_word(word, own) or is_derived(word, own):
        return True
    if word in NEUTRAL or word in NEGATORS or any(same_word(word, asked) for asked in words_of(question)):
        return False
    pair = f"{words[place - 1]} {word}" if place else ""
    name = pair if pair and is_word(pair) else word
    modifies = place + 1 < len(words) and words[place + 1] not in NEUTRAL | RELATIONS and is_word(words[place + 1])
    return not modifies and (mean_same(name, own) or is_a(name, own))
