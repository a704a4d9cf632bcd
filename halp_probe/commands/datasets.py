"""`halp-probe datasets`: the benchmarks that are known by name, and whether a download of one is whole."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable
from pathlib import Path

from halp_probe.commands.image_flags import add_link_argument, image_folder
from halp_probe.commands.table_flags import add_column_argument
from halp_probe.commands.terminal import with_flags
from halp_probe.errors import InputError

_WIDTH = 110  # characters of a line
_INDENT = 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `datasets`."""
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="one of them, such as repope, pope:random or vlmevalkit:FILE.tsv")
    add("--data-root", type=Path, metavar="DIR", help="check the download in this folder")
    add("--images-dir", type=Path, metavar="DIR", help="folder of the pictures (found below --data-root)")
    add_link_argument(parser)
    add_column_argument(parser)
    add("--markdown", action="store_true", help="the whole page, as docs/datasets.md has it")


def run(args: argparse.Namespace) -> int:
    """Print the list, one benchmark's card, or the check of a download; 2 where it cannot be used."""
    from halp_probe.catalog.entries import choose
    from halp_probe.catalog.page import datasets_list, datasets_page
    from halp_probe.task_files.named_check import card_lines, check_download
    from halp_probe.task_files.named_reading import Reading

    if args.name is None:
        if args.data_root is not None:
            raise InputError(
                "--data-root needs the NAME of the benchmark that lies there; halp-probe datasets lists them"
            )
        print(datasets_page() if args.markdown else datasets_list(), end="" if args.markdown else "\n")
        return 0
    chosen = choose(args.name, args.columns)
    print(f"{chosen.benchmark.title}: {chosen.benchmark.asks}")
    _show(card_lines(chosen))
    if args.data_root is None and args.images_dir is None:
        return 0
    reading = Reading(images_dir=image_folder(args.images_dir, args), columns=args.columns or {})
    check = check_download(chosen, args.data_root, reading)
    print()
    _show(check.facts)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    for level, lines in (("warning", check.warnings), ("error", check.errors)):
        for line in lines:
            print(f"{level}: {with_flags(line, parser)}")
    where = args.data_root or args.images_dir
    if check.errors:
        print(f"{where} cannot be used as {args.name}")
        return 2
    print(f"{where} can be used, but differs from the whole" if check.warnings else f"{where} is whole")
    return 0


def _show(lines: Iterable[tuple[str, str]]) -> None:
    for name, value in lines:
        lead = f"  {name:{_INDENT - 3}} "
        print(
            textwrap.fill(value, _WIDTH, initial_indent=lead, subsequent_indent=" " * _INDENT, break_long_words=False)
        )
