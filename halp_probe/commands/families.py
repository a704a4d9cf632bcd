"""`halp-probe families`: the model families that are supported, and what is read in each."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `families`."""
    parser.add_argument("--markdown", action="store_true", help="the whole page, as docs/families.md has it")


def run(args: argparse.Namespace) -> int:
    """Print the table; the exit status is 0."""
    from halp_probe.models.family_page import families_list, families_page

    print(families_page() if args.markdown else families_list(), end="" if args.markdown else "\n")
    return 0
