"""Verdict of a rule on one answer."""

from __future__ import annotations

from dataclasses import dataclass

RIGHT, WRONG = 0, 1  # label 1 = hallucinated

EMPTY_ANSWER = "empty answer"
NO_TRUTH = "no ground truth"
REFUSAL = "refusal"
CONFLICT = "evidence conflicts"
ABSENT = "does not say it, nor anything else of its kind"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Label of one answer and the evidence for it.

    `label` is 0 right, 1 wrong (hallucinated), None unknown; `rule` is the rule that decided, never "auto".
    `answer` and `truth` are the normalised texts that were compared ("" where no text could be read); `reason` says
    why in a few words.
    """

    label: int | None
    rule: str
    answer: str
    truth: str
    reason: str


def compare_texts(rule: str, answer: str, truth: str) -> Verdict:
    """Return right if the two normalised texts are the same, else wrong."""
    return right(rule, answer, truth) if answer == truth else wrong(rule, answer, truth)


def right(rule: str, answer: str, truth: str, reason: str = "says the ground truth") -> Verdict:
    """Return the verdict that the answer is right."""
    return Verdict(label=RIGHT, rule=rule, answer=answer, truth=truth, reason=reason)


def wrong(rule: str, answer: str, truth: str, reason: str = "says something else") -> Verdict:
    """Return the verdict that the answer is hallucinated."""
    return Verdict(label=WRONG, rule=rule, answer=answer, truth=truth, reason=reason)


def unknown(rule: str, truth: str, reason: str, answer: str = "") -> Verdict:
    """Return the verdict that the answer cannot be judged."""
    return Verdict(label=None, rule=rule, answer=answer, truth=truth, reason=reason)
