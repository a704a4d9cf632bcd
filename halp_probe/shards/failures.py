"""The file `failures.csv`: what could not be processed, at which stage and why. The next run tries it again."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from halp_probe.errors import InputError
from halp_probe.files import atomic_text
from halp_probe.records import Failure

FAILURES_FILE = "failures.csv"
_COLUMNS = ["question_id", "stage", "reason"]


def read_failures(folder: Path) -> list[Failure]:
    """Read the failures that the last run left; an empty list if there is no such file.

    Raises InputError for a file of that name that halp_probe did not write.
    """
    path = folder / FAILURES_FILE
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            columns, *rows = csv.reader(file)
    except (ValueError, csv.Error):  # no rows at all, or not a text
        columns, rows = [], []
    if columns != _COLUMNS or any(len(row) != len(_COLUMNS) for row in rows):
        raise InputError(f"{path} is not a list of failures of halp_probe; choose another folder or remove it")
    return [Failure(question_id=question_id, stage=stage, reason=reason) for question_id, stage, reason in rows]


def write_failures(folder: Path, failures: Iterable[Failure], name: str = FAILURES_FILE) -> None:
    """Replace the file; without failures, remove it."""
    rows = list(failures)
    path = folder / name
    if not rows:
        path.unlink(missing_ok=True)
        return
    with atomic_text(path) as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows((row.question_id, row.stage, row.reason) for row in rows)
