"""Texts in scripts without spaces between words, as Chinese, Japanese and Thai: compared character by character."""

from __future__ import annotations

import re

from halp_probe.labels.normalise import bare, sentences
from halp_probe.labels.refusal import is_refusal
from halp_probe.labels.verdict import ABSENT, CONFLICT, REFUSAL, Verdict, right, unknown, wrong

_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u9fff]")
_NEGATED = re.compile(r"(?:不是|没有|并非|不像|而不是|没|不|非|无)[^,。;]{0,4}$")
_EITHER = re.compile(r"或者?|还是")
_COLOURS = "红橙黄绿蓝紫粉棕黑白灰"
_DIRECTIONS = "左右上下前后"


def is_unspaced(text: str) -> bool:
    """Return whether a text holds characters of such a script."""
    return _UNSPACED.search(text) is not None


def judge_unspaced(answer: str, truth: str) -> Verdict:
    """Judge a clean `answer` in such a script: right if it holds the truth, not negated.

    It is wrong where it negates the truth, or names another colour or direction.
    """
    said, wanted = bare(answer), bare(truth).replace(" ", "")
    if is_refusal(answer):
        return unknown("contains", wanted, REFUSAL, said)
    found = {
        "denied" if _NEGATED.search(sentence[: match.start()]) else "said"
        for sentence in sentences(answer.replace("。", "。\n"))
        for match in re.finditer(re.escape(wanted), sentence)
    }
    if found == {"said"} and not _EITHER.search(answer):
        return right("contains", said, wanted)
    if found == {"denied"}:
        return wrong("contains", said, wanted, "denies it")
    if found:
        return unknown("contains", wanted, CONFLICT, said)
    for values in (_COLOURS, _DIRECTIONS):
        own, other = ({value for value in values if value in text} for text in (wanted, said))
        if len(own) == 1 and other and not own & other and not _NEGATED.search(said[: said.index(next(iter(other)))]):
            return wrong("contains", said, wanted, f"names another value: {next(iter(sorted(other)))}")
    return unknown("contains", wanted, ABSENT, said)
