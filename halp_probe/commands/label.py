"""`halp-probe label`: shards -> labels.csv and a summary; labels.csv -> a report, agreement with a person."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from halp_probe.commands import label_flags
from halp_probe.commands.terminal import progress_on_terminal
from halp_probe.files import atomic_text
from halp_probe.labels import checking, comparison, report_text
from halp_probe.labels.check_sheet import write_sheet
from halp_probe.labels.comparison import DISAGREEMENTS, Reference
from halp_probe.labels.judge_config import JudgeConfig
from halp_probe.labels.labelling import summary
from halp_probe.labels.report import report
from halp_probe.labels.table import LabelError, read_labels, refuse_folder

_USUAL_COLUMNS = ("dataset", "source", "category")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `label`."""
    label_flags.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Label, report, check or compare labels; the exit status is 0. Raises LabelError for what cannot be used."""
    label_flags.check(args)
    judge = label_flags.judge_config(args)
    person = None  # read first: a judge may take hours
    if args.compare is not None:
        person = comparison.reference(args.compare, args.column or "label")
    if args.check is not None:
        checking.read_checked(args.check)
    numbers = label_flags.tolerances(args)
    if args.labels is None:
        label_into(
            args.out, args.shards, args.rule, args.table, args.column if person is None else None, judge, **numbers
        )
    labels = Path(args.labels or args.out)
    if person is not None:
        _compare(labels, person, args.shards)
    if args.report:
        _report(labels, args.shards, args.report_columns)
    if args.check is not None:
        print(checking.summary(checking.error_rates(read_labels(labels).rows, args.check)))
    return 0


def label_into(
    out: str | Path,
    shards: str | Path,
    rule: str | None = None,
    table: str | None = None,
    column: str | None = None,
    judge: JudgeConfig | None = None,
    tolerance: float = 0.0,
    decimals_column: str | None = None,
) -> None:
    """Write labels.csv of the answers in the shards, and print a summary."""
    from halp_probe.tasks.labelling import label  # here, so that --help needs no h5py

    refuse_folder(out)
    if judge is not None and judge.cache is None:
        judge = replace(judge, cache=Path(out).with_suffix(".verdicts.jsonl"))
    with progress_on_terminal() as progress:
        labels = label(
            shards,
            rule=rule,
            table=table,
            column=column,
            judge=judge,
            tolerance=tolerance,
            decimals_column=decimals_column,
            progress=progress,
        )
    labels.write(out)
    print(summary(labels.rows, str(out), labels.notes))


def _report(path: Path, shards: str | None, columns: Sequence[str] | None) -> None:
    """Write the report and the sheet beside the labels, and print the report's numbers."""
    labels = read_labels(path)
    found = report(labels.rows, {} if shards is None else _columns(shards, columns))
    page, sheet = path.with_suffix(".report.md"), path.with_suffix(".check.csv")
    fresh = write_sheet(sheet, labels.rows)
    with atomic_text(page) as file:
        file.write(report_text.page(found, path.name, sheet.name))
    print(report_text.lines(found))
    kept = "a random sample to fill in" if fresh else "kept as it is, since somebody has begun to fill it in"
    print(f"see {page}; {sheet}: {kept}")


def _columns(shards_dir: str, names: Sequence[str] | None) -> dict[str, dict[str, str]]:
    """Return the values of the named columns by question id; without names, of the usual ones that there are."""
    from halp_probe.shards.reader import open_shards

    shards = open_shards(shards_dir)
    if missing := [name for name in names or () if not shards.has(name)]:
        raise LabelError(f"--report-columns {missing[0]}: the shards have {', '.join(shards.text_columns)}")
    wanted = names or [name for name in _USUAL_COLUMNS if shards.has(name)]
    return {name: dict(zip(shards.question_ids, shards.text(name), strict=True)) for name in wanted}


def _compare(labels: Path, person: Reference, shards: str | None) -> None:
    """Compare labels.csv with a person's labels, write disagreements.csv beside it and print a summary.

    With `shards` the bootstrap draws whole images, identified by the shards' columns.
    """
    found = comparison.compare(labels, person, None if shards is None else _images(shards))
    path = labels.with_name(DISAGREEMENTS)
    comparison.write_disagreements(path, found)
    print(comparison.summary(found, person))
    print(f"{len(found.disagreements)} disagreements -> {path}")


def _images(shards_dir: str) -> dict[str, str] | None:
    """Return each question_id's image: the file's hash where all rows have one, else its id; None without either."""
    from halp_probe.shards.reader import open_shards

    shards = open_shards(shards_dir)
    for name in ("image_sha256", "image_id"):
        values = shards.text(name) if shards.has(name) else []
        if values and all(values):
            return dict(zip(shards.question_ids, values, strict=True))
    return None
