"""Label answers by rules, by a table made elsewhere, or by a judge model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from halp_probe.labels.number import Tolerance
from halp_probe.labels.rules import judge
from halp_probe.labels.table import LabelError, LabelRow, count, row

_SHOWN = 5  # unknown ids in the summary


class Answers(Protocol):
    """Answers to label: the part of `Shards` that labelling reads."""

    @property
    def question_ids(self) -> tuple[str, ...]:
        """Ids of the questions, in the shards' order."""

    def text(self, name: str) -> list[str]:
        """Return a column of texts."""

    def has(self, name: str) -> bool:
        """Check for a column."""


def text_of(shards: Answers, name: str) -> list[str]:
    """Return a column of texts; blank ones if there is no column of this name."""
    return shards.text(name) if shards.has(name) else [""] * len(shards.question_ids)


def answers_of(shards: Answers) -> list[str]:
    """Return the model's answers. Raises LabelError when there are none."""
    answers = text_of(shards, "answer")
    if not any(answer.strip() for answer in answers):
        raise LabelError(
            f"none of the {len(answers)} questions has an answer to judge (extracted with `answers=False`?); extract "
            "with answers, or pass labels made elsewhere: `table` FILE `column` NAME"
        )
    return answers


def judge_answers(
    shards: Answers, rule: str | None = None, tolerance: float = 0.0, decimals_column: str | None = None
) -> list[LabelRow]:
    """Judge each answer, in the shards' order; without a `rule` the shape of each ground truth picks its own.

    Numbers are right within `tolerance`, a share of the truth; `decimals_column` names a column that says to how many
    decimals both are rounded instead, row by row. Raises LabelError for a column that is missing or holds no numbers.
    """
    truths, questions = shards.text("ground_truth_answer"), text_of(shards, "question")
    tolerances = _tolerances(shards, tolerance, decimals_column)
    cells = zip(shards.question_ids, answers_of(shards), truths, questions, tolerances, strict=True)
    return [
        row(question_id, judge(answer, truth, question=question, rule=rule or "auto", tolerance=near))
        for question_id, answer, truth, question, near in cells
    ]


def _tolerances(shards: Answers, tolerance: float, column: str | None) -> list[Tolerance]:
    if column is None:
        return [Tolerance(relative=tolerance)] * len(shards.question_ids)
    if not shards.has(column):
        raise LabelError(f"the shards have no column {column!r}, which `decimals_column` names; check its name")
    found = []
    for question_id, cell in zip(shards.question_ids, shards.text(column), strict=True):
        try:
            decimals = int(float(cell)) if cell.strip() else None
        except ValueError:
            raise LabelError(
                f"question {question_id!r}: {cell!r} in the column {column!r} is no number of decimals; leave it blank"
            ) from None
        found.append(Tolerance(relative=0.0 if decimals is not None else tolerance, decimals=decimals))
    return found


def summary(rows: Sequence[LabelRow], out: str, notes: Sequence[str] = ()) -> str:
    """Summarise labels in a few lines: counts, per rule, and the first unknown answers with their reasons."""
    counts = count(rows)
    total = len(rows)
    lines = [f"{total} answers: {counts.right} right, {counts.wrong} hallucinated, {counts.unknown} unknown -> {out}"]
    for rule in counts.rules:
        own = count([each for each in rows if each.rule == rule])
        lines.append(f"  {rule:<9}{own.right:>7} right {own.wrong:>7} hallucinated {own.unknown:>7} unknown")
    unknowns = [each for each in rows if each.label is None]
    if unknowns:
        reasons = ", ".join(f"{reason} ({n})" for reason, n in Counter(each.reason for each in unknowns).most_common())
        lines.append(f"unknown because: {reasons}")
        lines += [f"  {each.question_id}: {each.reason}" for each in unknowns[:_SHOWN]]
        lines += [f"  … and {len(unknowns) - _SHOWN} more"] if len(unknowns) > _SHOWN else []
    return "\n".join([*lines, *(f"note: {note}" for note in notes)])
