"""The command `label`: shards -> labels.csv and a summary; labels.csv -> its agreement with a person's labels."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from halp_probe.commands import label_flags as options
from halp_probe.labels import comparison
from halp_probe.labels.comparison import DISAGREEMENTS, Comparison, Reference, write_disagreements
from halp_probe.labels.judge import JudgeConfig, JudgeRun, ask_judge, write_provenance
from halp_probe.labels.rules import judge
from halp_probe.labels.table import LabelError, LabelRow, refuse_folder, reviewed_labels, row, with_texts, write_labels

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
    judge_model: JudgeConfig | None = None,
) -> LabelCounts:
    """Label every answer in the shards, write `out` (labels.csv) and print a summary.

    With `table` and `column` the labels come from that CSV, matched by question_id; otherwise `rule` (auto) judges, and
    `judge_model` whatever its `which` says; then labels.judge.json beside `out` tells how.
    Raises LabelError if arguments do not go together, if no answer was generated, if the table does not fit, and for
    all that `ask_judge` raises.
    """
    from halp_probe.shards.reader import open_shards  # here, so that --help needs no h5py

    _check_sources(rule, table, column, judge_model)
    refuse_folder(out)
    shards = open_shards(shards_dir)
    questions, answers, truths = (_text(shards, name) for name in ("question", "answer", "ground_truth_answer"))
    notes: tuple[str, ...] = ()
    judged = None
    if table is not None and column is not None:
        reviewed = reviewed_labels(table, column, shards.question_ids)
        rows, notes = list(reviewed.rows), (reviewed.note,) if reviewed.note else ()
    else:
        task = shards.attributes.get("task")
        rows = judge_answers(shards, rule) if task is None else judge_task(shards, task, rule)
        if judge_model is not None:
            cache = Path(judge_model.cache or Path(out).with_suffix(".verdicts.jsonl"))
            judged = ask_judge(rows, questions, answers, truths, judge_model, cache)
            rows, notes = judged.rows, (_asked(judged, cache), *judged.notes)
    write_labels(out, with_texts(rows, questions, answers, truths))
    provenance = Path(out).with_suffix(".judge.json")
    if judge_model is not None and judged is not None:
        write_provenance(provenance, judge_model, judged)
    else:
        provenance.unlink(missing_ok=True)  # that of an earlier table is not this one's
    print(summary(rows, os.fspath(out), notes))
    for told in (*shards.notes, *_cut_off(shards)):
        print(f"note: {told}")
    return count(rows)


def compare(
    labels: str | os.PathLike[str], person: Reference, shards_dir: str | os.PathLike[str] | None = None
) -> Comparison:
    """Compare labels.csv with a person's labels, write disagreements.csv beside it and print a summary.

    With the shards the intervals come from a bootstrap over images, else over questions. Raises LabelError as
    `comparison.compare` does.
    """
    images = None if shards_dir is None else _images(shards_dir)
    found = comparison.compare(labels, person, images)
    path = Path(labels).with_name(DISAGREEMENTS)
    write_disagreements(path, found)
    print(comparison.summary(found, person))
    print(f"{len(found.disagreements)} disagreements -> {path}")
    return found


def _check_sources(
    rule: str | None,
    table: str | os.PathLike[str] | None,
    column: str | None,
    judge_model: JudgeConfig | None,
) -> None:
    if (table is None) != (column is None):
        raise LabelError("--table FILE and --column NAME belong together: pass both, or neither to judge by rules")
    if table is not None and rule is not None:
        raise LabelError("--rule does not go with --table: labels made elsewhere are taken as they are")
    if table is not None and judge_model is not None:
        raise LabelError("--judge does not go with --table: labels made elsewhere are taken as they are")
    if rule is not None and judge_model is not None and judge_model.which == "all":
        raise LabelError(
            "--rule does not go with --judge all: no rule decides there; pass --judge unknown, or no --rule"
        )


def _text(shards: Answers, name: str) -> list[str]:
    return shards.text(name) if shards.has(name) else [""] * len(shards.question_ids)


def _asked(judged: JudgeRun, cache: Path) -> str:
    return f"the judge was asked about {judged.asked} texts, {judged.cached} verdicts stood in {cache} already"


def _images(shards_dir: str | os.PathLike[str]) -> dict[str, str] | None:
    """question_id -> its image, by the content of the file where that is known for all; None if nothing is."""
    from halp_probe.shards.reader import open_shards

    shards = open_shards(shards_dir)
    for name in ("image_sha256", "image_id"):
        values = shards.text(name) if shards.has(name) else []
        if values and all(values):
            return dict(zip(shards.question_ids, values, strict=True))
    return None


def _cut_off(shards: Shards) -> list[str]:
    """A note on answers that were as long as they were allowed to be."""
    long, limit = _finished(shards).count(False), shards.attributes.get("max_new_tokens")
    return [f"{long} answers reach the limit of {limit} tokens and may be cut off before their verdict"] if long else []


def _finished(shards: Shards) -> list[bool]:
    """False for answers of as many tokens as were allowed: whether the last one was an end token is not known."""
    limit = shards.attributes.get("max_new_tokens")
    if not limit or not shards.has("answer_tokens"):
        return [True] * len(shards.question_ids)
    return [bool(tokens < limit) for tokens in shards.numbers("answer_tokens")]


def judge_answers(shards: Answers, rule: str | None = None) -> list[LabelRow]:
    """A row for each question, in the shards' order; without a `rule` each ground truth's shape picks its own."""
    truths, questions = shards.text("ground_truth_answer"), _text(shards, "question")
    cells = zip(shards.question_ids, _answers(shards), truths, questions, strict=True)
    return [
        row(question_id, judge(answer, truth, question=question, rule=rule or "auto"))
        for question_id, answer, truth, question in cells
    ]


def judge_task(shards: Shards, name: str, rule: str | None = None) -> list[LabelRow]:
    """The same by the task of this name, which the shards were captured for, from the items that they hold."""
    from halp_probe.tasks.table import TASKS
    from halp_probe.tasks.task import ITEM_COLUMN

    if rule is not None:
        raise LabelError(f"answers to the task {name!r} are judged by the task itself; leave --rule out")
    if name not in TASKS:
        raise LabelError(f"{shards.files[0]} was captured for the task {name!r}, which this version does not know")
    task = TASKS[name]
    cells = zip(shards.question_ids, shards.text(ITEM_COLUMN), _answers(shards), _finished(shards), strict=True)
    return [
        row(question_id, task.verdict(task.item(item), answer, finished=finished))
        for question_id, item, answer, finished in cells
    ]


def _answers(shards: Answers) -> list[str]:
    """Raises LabelError when there are none."""
    answers = _text(shards, "answer")
    if not any(answer.strip() for answer in answers):
        raise LabelError(
            f"none of the {len(answers)} questions has an answer to judge (extracted with --no-answers?); extract with "
            "answers, or pass labels made elsewhere: --table FILE --column NAME"
        )
    return answers


def count(rows: Sequence[LabelRow]) -> LabelCounts:
    labels = Counter(each.label for each in rows)
    return LabelCounts(labels[0], labels[1], labels[None], dict(sorted(Counter(each.rule for each in rows).items())))


def summary(rows: Sequence[LabelRow], out: str, notes: Sequence[str] = ()) -> str:
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
    return "\n".join([*lines, *(f"note: {note}" for note in notes)])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    options.check(args)
    judge_model = options.judge_config(args)
    if args.compare is None:
        label(args.shards, args.out, args.rule, args.table, args.column, judge_model)
        return 0
    person = comparison.reference(args.compare, args.column or "label")  # first: a judge may take hours
    if args.labels is None:
        label(args.shards, args.out, args.rule, judge_model=judge_model)
    compare(args.labels or args.out, person, args.shards)
    return 0
