"""Verdicts that rest on absence: the answer is called hallucinated because its words are not the ground truth's."""

from __future__ import annotations

from halp_probe.labels.verdict import WRONG

# Reasons of the rule contains: something else stands where the truth should; the last is version 0.7's.
_INSTEAD = ("names another", "reads another text", "does not say it")
_UNEQUAL = "says something else"  # of a rule that compares whole texts, it is absence too
_WHOLE_TEXTS = frozenset(("exact", "vqa"))


def rests_on_absence(rule: str, label: int | None, reason: str) -> bool:
    """Tell whether a row is called hallucinated only since its answer says something else than the ground truth."""
    return label == WRONG and (reason.startswith(_INSTEAD) or (reason == _UNEQUAL and rule in _WHOLE_TEXTS))
