"""`halp-probe compare`: which layers moved between two models, or between a model and its adapter."""

from __future__ import annotations

import argparse
from pathlib import Path

from halp_probe.arguments import at_least_two
from halp_probe.errors import InputError

PLOT_FILE = "comparison.svg"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--shards", type=Path, action="append", metavar="FOLDER", help="a finished extraction; give it twice: A, then B"
    )
    add("--output-dir", type=Path, required=True, help="comparison.csv, comparison.svg, changed_answers.csv")
    add("--common-only", action="store_true", help="leave out questions that only one side has")
    add("--bootstrap", type=at_least_two, default=1000, metavar="DRAWS", help="draws for the intervals (%(default)s)")
    add("--seed", type=int, default=0, help="of the bootstrap and of CKA's choice of rows (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Compare; the exit status. Raises InputError for input that cannot be used."""
    if len(args.shards or ()) != 2:
        raise InputError("name both sides")
    compare_folders(args.shards[0], args.shards[1], args)
    return 0


def compare_folders(a: Path, b: Path, args: argparse.Namespace) -> None:
    """Write what moved from the shards in `a` to those in `b`, and print it."""
    from halp_probe.comparison.compare import compare
    from halp_probe.comparison.outputs import (
        ANSWERS_FILE,
        COMPARISON_FILE,
        side_name,
        table,
        write_changed_answers,
        write_comparison,
    )
    from halp_probe.comparison.pairing import pair
    from halp_probe.comparison.plot import comparison_svg
    from halp_probe.files import write_bytes
    from halp_probe.shards.reader import open_shards

    sides = [open_shards(folder) for folder in (a, b)]
    found = compare(pair(*sides, common_only=args.common_only), draws=args.bootstrap, seed=args.seed)
    names = [f"{side_name(shards)} ({folder})" for shards, folder in zip(sides, (a, b), strict=True)]
    write_comparison(args.output_dir / COMPARISON_FILE, found)
    write_changed_answers(args.output_dir / ANSWERS_FILE, found)
    write_bytes(args.output_dir / PLOT_FILE, comparison_svg(found, *names))
    print(f"A: {names[0]}\nB: {names[1]}\n{table(found)}")
    print(f"{args.output_dir} holds {COMPARISON_FILE}, {PLOT_FILE} and {ANSWERS_FILE}")
