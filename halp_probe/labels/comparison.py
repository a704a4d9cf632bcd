"""Comparison of labels.csv with a person's labels: agreement, per rule too, and the questions they disagree on."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from halp_probe.bootstrap import Draws, Estimate
from halp_probe.files import atomic_text
from halp_probe.labels.agreement import DRAWS, Agreement, agreement
from halp_probe.labels.table import ID_COLUMN, LabelError, LabelRow, check_meaning, read_labels

DISAGREEMENTS = "disagreements.csv"
_FIELDS = (ID_COLUMN, "label", "reviewed_label", "rule", "reason", "question", "model_answer", "ground_truth")
_SIDES = ("right", "hallucinated", "unknown")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Labels by a person: `labels` by question_id, from column `column` of the table at `path`."""

    path: Path
    column: str
    labels: Mapping[str, int | None]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Agreement with a person over all rules (`whole`) and by the rule of labels.csv (`rules`).

    `disagreements` are the rows with the other label; `unit` is what the bootstrap drew ("image" or "question");
    `notes` say what was left out.
    """

    whole: Agreement
    rules: Mapping[str, Agreement]
    disagreements: tuple[tuple[LabelRow, int], ...]
    unit: str
    notes: tuple[str, ...]


def reference(path: str | os.PathLike[str], column: str) -> Reference:
    """Read a person's labels. Raises LabelError as `read_labels` does, or if the column seems to say 1 = right."""
    path = Path(path)
    check_meaning(column)
    labels = read_labels(path, column)
    if all(label is None for label in labels.values()):
        raise LabelError(f"{path} has no label in column {column!r}; pass a table that somebody has reviewed")
    return Reference(path=path, column=column, labels=labels)


def compare(
    labels: str | os.PathLike[str],
    person: Reference,
    images: Mapping[str, str] | None = None,
    draws: Draws = DRAWS,
) -> Comparison:
    """Compare labels.csv with a person's labels, matched by question_id.

    `images`: question_id -> image, to draw whole images in the bootstrap; without it questions are drawn. Questions
    that the person's table lacks are left out. Raises LabelError if the two share no id, or if `images` lacks one.
    """
    path = Path(labels)
    _refuse_itself(path, person)
    rows = read_labels(path).rows
    both = [row for row in rows if row.question_id in person.labels]
    if not both:
        raise LabelError(
            f"{person.path}: labels for other ids: none of its {len(person.labels)} question ids is in {path} (its "
            f'first: "{next(iter(person.labels))}", the first there: "{rows[0].question_id if rows else ""}"); pass '
            "the table of these questions, ids written exactly as in it"
        )
    units = [row.question_id if images is None else _image(row.question_id, images, path) for row in both]
    theirs = [person.labels[row.question_id] for row in both]
    rules = sorted({row.rule for row in both})
    unit = "question" if images is None else "image"
    return Comparison(
        whole=agreement([row.label for row in both], theirs, units, draws, unit),
        rules={rule: _of_rule(rule, both, theirs, units, draws, unit) for rule in rules},
        disagreements=tuple(
            (row, own)
            for row, own in zip(both, theirs, strict=True)
            if row.label is not None and own is not None and row.label != own
        ),
        unit=unit,
        notes=_notes(rows, both, person, path),
    )


def write_disagreements(path: Path, comparison: Comparison) -> None:
    """Write a row for each question with two different labels, with the texts that labels.csv has of it."""
    with atomic_text(path) as file:
        writer = csv.writer(file)
        writer.writerow(_FIELDS)
        for row, own in comparison.disagreements:
            texts = (row.question, row.model_answer, row.ground_truth)
            writer.writerow((row.question_id, row.label, own, row.rule, row.reason, *texts))


def summary(comparison: Comparison, person: Reference) -> str:
    """Summarise in a few lines for a person: per cent, kappa, the counts, the rules, what was left out."""
    whole = comparison.whole
    lines = [
        f"{whole.compared} answers compared with column {person.column!r} of {person.path.name}: "
        f"{whole.agreeing} agree, {_format(whole.agreement, 100)} %; Cohen's kappa {_format(whole.kappa)}"
    ]
    if whole.problem:
        lines.append(f"kappa is not defined: {whole.problem}")
    if whole.compared:
        lines.append(f"in brackets: 95 % by a bootstrap over {whole.units} {comparison.unit}s")
    notes = (whole.agreement.note, "" if whole.problem else whole.kappa.note)
    lines += [f"of the intervals: {note}" for note in dict.fromkeys(notes) if note]
    lines.append(f"  {'reviewed:':>21}" + "".join(f"{side:>14}" for side in _SIDES))
    lines += [
        f"  labels: {side:<13}" + "".join(f"{n:>14}" for n in row)
        for side, row in zip(_SIDES, whole.confusion, strict=True)
    ]
    lines += [
        f"  {rule or '(no rule)':<9}{own.compared:>7} compared {own.agreeing:>7} agree, "
        f"{_format(own.agreement, 100)} %; kappa {_format(own.kappa)}"
        for rule, own in comparison.rules.items()
    ]
    return "\n".join([*lines, *(f"note: {note}" for note in comparison.notes)])


def _of_rule(
    rule: str,
    rows: Sequence[LabelRow],
    theirs: Sequence[int | None],
    units: Sequence[str],
    draws: Draws,
    unit: str,
) -> Agreement:
    own = [n for n, row in enumerate(rows) if row.rule == rule]
    return agreement([rows[n].label for n in own], [theirs[n] for n in own], [units[n] for n in own], draws, unit)


def _notes(rows: Sequence[LabelRow], both: Sequence[LabelRow], person: Reference, path: Path) -> tuple[str, ...]:
    notes = []
    if len(both) < len(rows):
        first = next(row.question_id for row in rows if row.question_id not in person.labels)
        notes.append(
            f'{len(rows) - len(both)} of {len(rows)} questions are not in {person.path.name} (first: "{first}")'
        )
    known = {row.question_id for row in rows}
    strangers = [question_id for question_id in person.labels if question_id not in known]
    if strangers:
        notes.append(
            f"{len(strangers)} of {len(person.labels)} ids in {person.path.name} are not in {path.name} "
            f'(first: "{strangers[0]}")'
        )
    return tuple(notes)


def _refuse_itself(path: Path, person: Reference) -> None:
    if person.column == "label" and path.exists() and path.samefile(person.path):
        raise LabelError(
            f"{path} would be compared with itself; pass a person's table to `compare`, or `column` with the name of "
            "the column that the person filled in"
        )


def _image(question_id: str, images: Mapping[str, str], path: Path) -> str:
    if question_id not in images:
        raise LabelError(f"{path}: question_id {question_id!r} is not in the shards; pass the shards it was made from")
    return images[question_id]


def _format(share: Estimate, times: int = 1) -> str:
    """Format a share: "94.6 [92.1, 97.0]" in per cent, "0.876 [0.812, 0.930]" else; no brackets without an interval."""
    digits = 1 if times == 100 else 3
    value, low, high = (f"{times * part:.{digits}f}" for part in (share.value, share.low, share.high))
    return value if "nan" in (low, high) else f"{value} [{low}, {high}]"
