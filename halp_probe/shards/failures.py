"""The file `failures.csv`: what could not be processed, at which stage and why. The next run tries it again."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from halp_probe.csv_files import read_rows
from halp_probe.errors import InputError
from halp_probe.files import atomic_text
from halp_probe.plain_text import shorten
from halp_probe.records import Failure

FAILURES_FILE = "failures.csv"
_COLUMNS = ["question_id", "stage", "reason"]


def read_failures(folder: Path, name: str = FAILURES_FILE) -> list[Failure]:
    """Read the failures that the last run left; an empty list if there is no such file.

    Raises InputError for a file of that name that halp_probe did not write.
    """
    path = folder / name
    if not path.exists():
        return []
    rows = list(read_rows(path))
    if not rows or rows[0].cells != _COLUMNS or any(row.mismatch(_COLUMNS) for row in rows):
        raise InputError(f"{path} is not a list of failures of halp_probe; choose another folder or remove it")
    return [Failure(**dict(zip(_COLUMNS, row.cells, strict=True))) for row in rows[1:]]


def write_failures(folder: Path, failures: Iterable[Failure], name: str = FAILURES_FILE) -> None:
    """Replace the file, long texts cut; without failures, remove it."""
    rows = list(failures)
    path = folder / name
    if not rows:
        path.unlink(missing_ok=True)
        return
    with atomic_text(path) as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows((shorten(row.question_id), row.stage, shorten(row.reason)) for row in rows)
