"""Ground truths that say that the question cannot be answered: a refusal is right, an invention wrong."""

from __future__ import annotations

import re

from halp_probe.labels.negation import NEGATORS
from halp_probe.labels.normalise import bare, words_of
from halp_probe.labels.refusal import is_refusal, says_not_shown
from halp_probe.labels.truth import is_unanswerable
from halp_probe.labels.verdict import Verdict, right, unknown, wrong

_GUESS = re.compile(
    r"\b(?:maybe|perhaps|probably|possibly|likely|might|may be|could be|appears to|seems to|looks like|guess)\b", re.I
)


def judge_unanswerable(answer: str, truth: str) -> Verdict:
    """Judge a clean `answer` where there is none: right if it declines, wrong if it answers, unknown if it guesses."""
    said, wanted = bare(answer), bare(truth)
    declines = is_unanswerable(answer) or is_refusal(answer) or says_not_shown(answer)
    if declines and not _GUESS.search(answer):
        return right("contains", said, wanted, "declines to answer")
    if declines or _GUESS.search(answer):
        return unknown("contains", wanted, "guesses where there is no answer", said)
    if NEGATORS.intersection(words_of(answer)):
        return unknown("contains", wanted, "an unclear negation", said)
    return wrong("contains", said, wanted, "answers what cannot be answered")
