"""Judge one answer by a rule, which the ground truth picks if the user does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from halp_probe.labels.choice import judge_choice, letter_of, options
from halp_probe.labels.freeform import judge_contains, judge_exact
from halp_probe.labels.normalise import bare, clean, plain
from halp_probe.labels.number import is_number, judge_number
from halp_probe.labels.verdict import EMPTY_ANSWER, NO_TRUTH, Verdict, unknown
from halp_probe.labels.vqa import human_answers, judge_vqa, judge_vqa_sentence
from halp_probe.labels.yes_no import judge_yes_no

RULES = ("auto", "exact", "vqa", "yes_no", "choice", "number", "contains")
_JUDGES: Mapping[str, Callable[[str, str, str], Verdict]] = MappingProxyType(
    {
        "exact": judge_exact,
        "vqa": judge_vqa,
        "yes_no": judge_yes_no,
        "choice": judge_choice,
        "number": judge_number,
        "contains": judge_contains,
    }
)


def judge(answer: str, truth: str, *, question: str = "", rule: str = "auto") -> Verdict:
    """Judge if `answer` is right. `rule` is one of RULES; "auto" picks by the shape of the ground truth.

    The verdict is unknown (`label` None) wherever the evidence is missing or conflicts. Raises ValueError for
    another rule.
    """
    if rule not in RULES:
        raise ValueError(f"no rule {rule!r} to judge answers by; choose one of: {', '.join(RULES)}")
    chosen = shape_of(truth, question) if rule == "auto" else rule
    if not truth.strip():
        return unknown(chosen, "", NO_TRUTH)
    said = clean(answer, question)
    if not said:
        return unknown(chosen, bare(truth), EMPTY_ANSWER)
    if rule == "auto" and chosen == "vqa":
        return judge_vqa_sentence(said, truth, question)
    if chosen in ("exact", "contains") and human_answers(truth) is not None:
        return unknown(chosen, bare(truth), "the ground truth is a list; the rule for lists is vqa")
    return _JUDGES[chosen](said, truth, question)


def shape_of(truth: str, question: str = "") -> str:
    """Return the rule that fits a ground truth's shape.

    A lone lower-case "a" may be the article, and so is an option only where the question lists options.
    """
    text = plain(truth)
    if bare(text) in ("yes", "no", "true", "false", "y", "n"):
        return "yes_no"
    if human_answers(text) is not None:
        return "vqa"
    if is_number(text):
        return "number"
    if letter_of(text) is not None and (text != "a" or options(question)):
        return "choice"
    return "contains"
