"""Answers that changed from A to B. Legend: N paired rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halp_probe.bootstrap import Draws, Estimate
from halp_probe.comparison.measures import DRAWS, share_over_images
from halp_probe.comparison.pairing import Pair


@dataclass(frozen=True, kw_only=True)
class ChangedAnswer:
    """Question whose answer changed, with both answers."""

    question_id: str
    question: str
    ground_truth: str
    answer_a: str
    answer_b: str


@dataclass(frozen=True, kw_only=True)
class AnswerChanges:
    """Changed answers, and their `share` of the `rows` questions: those whose answer is another text."""

    rows: int
    share: Estimate
    changed: tuple[ChangedAnswer, ...]


def answer_changes(pair: Pair, draws: Draws = DRAWS) -> tuple[AnswerChanges | None, str]:
    """Compare the answers; return None and the reason where they cannot be compared."""
    if why := _not_comparable(pair):
        return None, f"answers are not compared: {why}"
    a, b = pair.texts("answer")
    flags = np.array([first != second for first, second in zip(a, b, strict=True)])  # [N]
    questions, truths = (
        pair.texts(column)[0] if pair.both_have(column) else [""] * len(pair)
        for column in ("question", "ground_truth_answer")
    )
    ids = pair.question_ids
    changed = tuple(
        ChangedAnswer(
            question_id=ids[row], question=questions[row], ground_truth=truths[row], answer_a=a[row], answer_b=b[row]
        )
        for row in np.flatnonzero(flags)
    )
    return AnswerChanges(rows=len(pair), share=share_over_images(flags, pair.images, draws), changed=changed), ""


def _not_comparable(pair: Pair) -> str:
    if not pair.both_have("answer") or not all(map(any, pair.texts("answer"))):
        return "a side has none"
    longest = [shards.attributes.get("max_new_tokens") for shards in (pair.a, pair.b)]
    if longest[0] != longest[1]:
        return f"at most {longest[0]} tokens in A and {longest[1]} in B"
    return ""
