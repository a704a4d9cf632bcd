"""Flags that name a table of questions and its pictures, and say how it is read."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from halp_probe.task_files.table import PICTURES, TableOptions


def add_table_arguments(group: argparse._ActionsContainer, columns: str, *, required: bool = False) -> None:
    """Add the flags; `columns` says what the table has, for their help."""
    add = group.add_argument
    add(
        "--vqa-dataset",
        type=Path,
        required=required,
        help=f"table with {columns}: CSV, TSV, JSON, JSON lines, Parquet, Arrow or .xlsx (FILE.xlsx#SHEET)",
    )
    add("--images-dir", type=Path, help="folder of the images: {images_dir}/{image_id}; none if the table holds them")
    add_column_argument(group)
    add("--pictures-dir", type=Path, help="where images go that the table holds or has URLs of (OUTPUT_DIR/pictures)")
    add("--allow-urls", action="store_true", help="fetch images of which the table has URLs")


def add_column_argument(group: argparse._ActionsContainer) -> None:
    """Add `--column`."""
    group.add_argument(
        "--column",
        dest="columns",
        action=_AddColumn,
        metavar="NAME=THEIRS",
        help="the table's column for one of ours, such as question=text, or a dotted path: image_id=images.0",
    )


def table_options(args: argparse.Namespace) -> TableOptions:
    """Return how the table is to be read, from parsed flags."""
    return TableOptions(
        columns=args.columns or {},
        pictures_dir=args.pictures_dir or args.output_dir / PICTURES,
        allow_urls=args.allow_urls,
    )


def table_source(args: argparse.Namespace) -> dict[str, Any]:
    """Return the table and its columns as JSON values, for the record of a run."""
    return {"vqa_dataset": str(args.vqa_dataset), "columns": args.columns, "allow_urls": args.allow_urls}


class _AddColumn(argparse.Action):
    """Collect NAME=THEIRS in a dict, each name once."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Add one."""
        ours, equals, theirs = str(values).partition("=")
        found = dict(getattr(namespace, self.dest) or {})
        if not (ours.strip() and equals and theirs.strip()):
            raise argparse.ArgumentError(self, f"{values!r} is not NAME=THEIRS, such as question=text")
        if ours in found:
            raise argparse.ArgumentError(self, f"{ours} is given twice; give it once")
        setattr(namespace, self.dest, {**found, ours.strip(): theirs.strip()})
