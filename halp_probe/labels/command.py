"""The command `label`: shards -> labels.csv and a summary."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from halp_probe.labels.rules import RULES, judge
from halp_probe.labels.table import LabelError, LabelRow, reviewed_labels, row, with_texts, write_labels

if TYPE_CHECKING:
    from halp_probe.shards.reader import Shards

_SHOWN = 5  # unknown ids in the summary


class Answers(Protocol):
    """What labelling needs of the shards."""

    @property
    def question_ids(self) -> tuple[str, ...]: ...

    def text(self, name: str) -> list[str]: ...

    def has(self, name: str) -> bool: ...


@dataclass(frozen=True)
class LabelCounts:
    """How many answers are right (label 0), wrong (1) and unknown; `rules`: how many each rule was asked about."""

    right: int
    wrong: int
    unknown: int
    rules: dict[str, int]


def label(
    shards_dir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    rule: str | None = None,
    table: str | os.PathLike[str] | None = None,
    column: str | None = None,
) -> LabelCounts:
    """Label every answer in the shards, write `out` (labels.csv) and print a summary.

    With `table` and `column` the labels come from that CSV, matched by question_id; otherwise `rule` (auto) judges.
    Raises LabelError if only one of the two is given, or a rule besides, if no answer was generated, or if the table
    does not fit.
    """
    from halp_probe.shards.reader import open_shards  # here, so that --help needs no h5py

    if (table is None) != (column is None):
        raise LabelError("--table FILE and --column NAME belong together: pass both, or neither to judge by rules")
    if table is not None and rule is not None:
        raise LabelError("--rule does not go with --table: labels made elsewhere are taken as they are")
    shards = open_shards(shards_dir)
    note = ""
    if table is not None and column is not None:
        reviewed = reviewed_labels(table, column, shards.question_ids)
        rows, note = list(reviewed.rows), reviewed.note
    else:
        rows = judge_answers(shards, rule or "auto")
    texts = ("question", "answer", "ground_truth_answer")
    blank = [""] * len(rows)
    write_labels(out, with_texts(rows, *(shards.text(name) if shards.has(name) else blank for name in texts)))
    print(summary(rows, os.fspath(out), note))
    for told in (*shards.notes, *_cut_off(shards)):
        print(f"note: {told}")
    return count(rows)


def _cut_off(shards: Shards) -> list[str]:
    """A note on answers that were as long as they were allowed to be."""
    limit = shards.attributes.get("max_new_tokens")
    if not limit or not shards.has("answer_tokens"):
        return []
    long = int((shards.numbers("answer_tokens") >= limit).sum())
    return [f"{long} answers reach the limit of {limit} tokens and may be cut off before their verdict"] if long else []


def judge_answers(shards: Answers, rule: str = "auto") -> list[LabelRow]:
    """A row for each question, in the shards' order."""
    truths = shards.text("ground_truth_answer")
    answers = shards.text("answer") if shards.has("answer") else [""] * len(truths)
    if not any(answer.strip() for answer in answers):
        raise LabelError(
            f"none of the {len(answers)} questions has an answer to judge (extracted with --no-answers?); extract with "
            "answers, or pass labels made elsewhere: --table FILE --column NAME"
        )
    questions = shards.text("question") if shards.has("question") else [""] * len(answers)
    cells = zip(shards.question_ids, answers, truths, questions, strict=True)
    return [
        row(question_id, judge(answer, truth, question=question, rule=rule))
        for question_id, answer, truth, question in cells
    ]


def count(rows: Sequence[LabelRow]) -> LabelCounts:
    labels = Counter(each.label for each in rows)
    return LabelCounts(labels[0], labels[1], labels[None], dict(sorted(Counter(each.rule for each in rows).items())))


def summary(rows: Sequence[LabelRow], out: str, note: str = "") -> str:
    """A few lines for a person: counts, per rule, and the first unknown answers with their reasons."""
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
    return "\n".join([*lines, f"note: {note}"] if note else lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shards", required=True, metavar="DIR", help="folder of shards, or one shard file")
    parser.add_argument("--out", required=True, metavar="labels.csv", help="the labels table to write")
    parser.add_argument(
        "--rule", choices=RULES, help="how answers are judged; auto (the default) picks by the ground truth's shape"
    )
    parser.add_argument("--table", metavar="FILE", help="CSV of labels made elsewhere; needs --column")
    parser.add_argument("--column", metavar="NAME", help="its column of labels: 0 right, 1 hallucinated, empty unknown")


def run(args: argparse.Namespace) -> int:
    label(args.shards, args.out, args.rule, args.table, args.column)
    return 0
