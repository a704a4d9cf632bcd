r"""Rule math: expressions such as "\frac{3}{4}" or "2x + 3", compared by math-verify (https://pypi.org/project/math-verify)."""

from __future__ import annotations

import re

from halp_probe.labels.normalise import bare, plain
from halp_probe.labels.refusal import is_refusal
from halp_probe.labels.verdict import REFUSAL, Verdict, right, unknown, wrong

_COMMAND = re.compile(r"\\(?:d?frac|sqrt|pi|cdot|times|left|infty|theta|alpha|beta)\b|√|π")
_ALGEBRA = re.compile(r"[-+]?\s*(?:\d*[a-z]?(?:\^\d+|\^\{\d+\})?)(?:\s*[-+*/=]\s*\d*\.?\d*[a-z]?(?:\^\d+|\^\{\d+\})?)+")
_POWER = re.compile(r"\d*[a-z]\^\{?\d+\}?|\d+[a-z]")


def is_expression(truth: str) -> bool:
    """Return whether a ground truth is a mathematical expression, rather than words or a plain number."""
    text = plain(truth).strip()
    algebra = _ALGEBRA.fullmatch(text) is not None and re.search(r"\d", text) is not None and re.search(r"[a-z^]", text)
    return bool(_COMMAND.search(text) or algebra or (_POWER.fullmatch(text) and "^" in text))


def judge_math(answer: str, truth: str, question: str = "") -> Verdict:
    """Judge if a clean `answer`, or the expression at its end, equals the truth.

    Without math-verify only expressions that are written alike are equal, and others are unknown.
    """
    said, wanted = _squeeze(answer), _squeeze(truth)
    if said == wanted or said.rpartition("=")[2] == wanted:
        return right("math", said, wanted, "the same expression")
    if is_refusal(answer):
        return unknown("math", wanted, REFUSAL, bare(answer))
    try:
        from math_verify import parse, verify
    except ModuleNotFoundError:
        return unknown("math", wanted, "another expression; to compare values: pip install 'halp_probe[math]'", said)
    true, given = parse(f"${truth}$", parsing_timeout=None), parse(f"${answer}$", parsing_timeout=None)
    if not true or not given:
        return unknown("math", wanted, "no expression could be read", said)
    if verify(true, given, timeout_seconds=None):
        return right("math", said, wanted, "an equal expression")
    if len(given) == 0 or not re.search(r"\d|[a-z]\b", said):
        return unknown("math", wanted, "no expression could be read", said)
    return wrong("math", said, wanted, "another expression")


def _squeeze(text: str) -> str:
    return re.sub(r"\s+|\\[,;!]|\\left|\\right|\$", "", plain(text)).replace("\\dfrac", "\\frac").rstrip(".")
