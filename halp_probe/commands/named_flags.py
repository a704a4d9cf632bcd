"""Flags that name a benchmark in place of a table."""

from __future__ import annotations

import argparse
from pathlib import Path

from halp_probe.commands.image_flags import image_folder
from halp_probe.commands.table_flags import table_options
from halp_probe.errors import InputError
from halp_probe.task_files.named_datasets import Dataset, read_named
from halp_probe.task_files.named_reading import Reading


def add_named_arguments(group: argparse._ActionsContainer) -> None:
    """Add `--dataset` and `--data-root`."""
    group.add_argument(
        "--dataset",
        metavar="NAME",
        help="a benchmark by name in place of a table, such as repope or haloquest:eval; see `halp-probe datasets`",
    )
    group.add_argument("--data-root", type=Path, metavar="DIR", help="folder of the benchmark's files")


def reading_of(args: argparse.Namespace) -> Reading:
    """Return how the benchmark's pictures and fields are found, from parsed flags."""
    options = table_options(args)
    return Reading(
        images_dir=image_folder(args.images_dir, args),
        pictures_dir=options.pictures_dir,
        columns=options.columns,
        allow_urls=options.allow_urls,
        allow_links=args.allow_links,
    )


def named_dataset(args: argparse.Namespace) -> Dataset:
    """Read the benchmark that the flags name. Raises InputError beside a table, and what `read_named` raises."""
    if args.vqa_dataset is not None:
        raise InputError("--vqa-dataset does not go with --dataset: ask a table's questions, or a benchmark's")
    return read_named(args.dataset, args.data_root, reading_of(args))
