"""Verdicts that rest on absence: the answer is called hallucinated because its words are not the ground truth's."""

from __future__ import annotations

from halp_probe.labels.verdict import WRONG

ABSENT = "names something else"  # the reason where an answer of the truth's kind names another
_BY_ABSENCE = frozenset(("does not say it", ABSENT))
_UNEQUAL = "says something else"  # of a rule that compares whole texts, it is absence too
_WHOLE_TEXTS = frozenset(("exact", "vqa"))


def rests_on_absence(rule: str, label: int | None, reason: str) -> bool:
    """Tell whether a row is called hallucinated only since its answer does not say the ground truth."""
    return label == WRONG and (reason in _BY_ABSENCE or (reason == _UNEQUAL and rule in _WHOLE_TEXTS))
