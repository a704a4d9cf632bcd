"""`halp-probe label`: shards -> labels.csv and a summary; labels.csv -> its agreement with a person's labels."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from halp_probe.commands import label_flags
from halp_probe.commands.terminal import progress_on_terminal
from halp_probe.labels import comparison
from halp_probe.labels.comparison import DISAGREEMENTS, Reference
from halp_probe.labels.judge_config import JudgeConfig
from halp_probe.labels.labelling import summary
from halp_probe.labels.table import refuse_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `label`."""
    label_flags.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Label, or compare labels, or both; the exit status is 0. Raises LabelError for what cannot be used."""
    label_flags.check(args)
    judge = label_flags.judge_config(args)
    if args.compare is None:
        label_into(args.out, args.shards, args.rule, args.table, args.column, judge)
        return 0
    person = comparison.reference(args.compare, args.column or "label")  # first: a judge may take hours
    if args.labels is None:
        label_into(args.out, args.shards, args.rule, judge=judge)
    _compare(Path(args.labels or args.out), person, args.shards)
    return 0


def label_into(
    out: str | Path,
    shards: str | Path,
    rule: str | None = None,
    table: str | None = None,
    column: str | None = None,
    judge: JudgeConfig | None = None,
) -> None:
    """Write labels.csv of the answers in the shards, and print a summary."""
    from halp_probe.tasks.labelling import label  # here, so that --help needs no h5py

    refuse_folder(out)
    if judge is not None and judge.cache is None:
        judge = replace(judge, cache=Path(out).with_suffix(".verdicts.jsonl"))
    with progress_on_terminal() as progress:
        labels = label(shards, rule=rule, table=table, column=column, judge=judge, progress=progress)
    labels.write(out)
    print(summary(labels.rows, str(out), labels.notes))


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
