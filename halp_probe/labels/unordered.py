"""Ground truths that list several values in any order: "red, white and blue"."""

from __future__ import annotations

import re

from halp_probe.labels.kinds import another_value, excludes, share_kind
from halp_probe.labels.normalise import plain, words_of
from halp_probe.labels.verdict import ABSENT, Verdict, right, unknown, wrong

_BETWEEN = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+|\s*&\s*")
_LONGEST = 2  # words of a listed value


def listed_values(truth: str) -> list[str]:
    """Return the values that a truth lists, two at least, each of a word or two; [] for any other truth."""
    values = [value for value in _BETWEEN.split(plain(truth).strip(" .")) if value]
    return values if len(values) > 1 and all(len(words_of(value)) in range(1, _LONGEST + 1) for value in values) else []


def judge_list(answer: str, truth: str, question: str, said: frozenset[str]) -> Verdict:
    """Judge a clean `answer` by the listed values that it says, `said`: all, and none else of their kind."""
    values = listed_values(truth)
    wanted = ", ".join(values)
    missing = [value for value in values if value not in said]
    if not missing:
        more = [word for word in words_of(answer) if _is_another(word, values, question)]
        if more:
            return unknown("contains", wanted, f"names {more[0]} too", answer)
        return right("contains", wanted, wanted, "says all of it")
    found = [other for value in missing if (other := another_value(_without(answer, said), value, question))]
    if found:
        return wrong("contains", answer, wanted, f"names another {found[0][1]}: {found[0][0]}")
    return unknown("contains", wanted, f"says {len(said)} of {len(values)} values" if said else ABSENT, answer)


def _is_another(word: str, values: list[str], question: str) -> bool:
    if word in words_of(question) or any(word in words_of(value) for value in values):
        return False
    return all(share_kind(word, value) and excludes(word, value) for value in values)


def _without(answer: str, said: frozenset[str]) -> str:
    taken = {word for value in said for word in words_of(value)}
    return " ".join(word for word in words_of(answer) if word not in taken)
