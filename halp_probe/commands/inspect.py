"""`inspect_h5.py FILE|FOLDER` and `halp-probe inspect`: a shard's contents in numbers, and whether it is valid."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from halp_probe.errors import InputError
from halp_probe.shards.inspection import inspect, sample_report
from halp_probe.shards.reader import open_shards


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `inspect`."""
    parser.add_argument("path", type=Path, metavar="FILE|FOLDER", help="a shard, or the folder of a run")
    parser.add_argument("--question", metavar="ID", help="show this sample's texts and positions too")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(args: argparse.Namespace) -> int:
    """Print the report; the exit status is 1 when a file is not valid, whose fault is printed."""
    try:
        shards = open_shards(args.path)
    except InputError as error:
        print(json.dumps({"valid": False, "problems": [str(error)]}) if args.json else f"not valid: {error}")
        return 1
    report = inspect(shards)
    if args.question is not None:
        report["question"] = sample_report(shards, args.question)
    if args.json:
        json.dump(report, sys.stdout, indent=2, ensure_ascii=False, default=str)
        print()
    else:
        _print_report(report)
    return 0 if report["valid"] else 1


def _print_report(report: dict[str, Any]) -> None:
    for path, samples in zip(report["files"], report["samples_by_file"], strict=True):
        print(f"{path}: {samples} samples")
    print("\nattributes of the first")
    for name, value in report["attributes"].items():
        print(f"  {name}: {value}")
    print(f"\n{report['samples']} samples, layers {', '.join(map(str, report['layers']))}")
    moments = ("mean", "std", "min", "max")
    if report["representations"]:
        print(
            "\n"
            + " ".join([f"{'representation':40} {'shape':>14} {'dtype':>8}", *(f"{m:>10}" for m in moments), "  NaN"])
        )
    for name, row in report["representations"].items():
        shape = "×".join(map(str, row["shape"]))
        numbers = ("-" if row[moment] is None else f"{row[moment]:.4g}" for moment in moments)
        print(f"{name:40} {shape:>14} {row['dtype']:>8}", *(f"{number:>10}" for number in numbers), f"{row['nan']:5}")
    print(f"\ncolumns: {', '.join(report['columns'])}")
    if "question" in report:
        print("\nquestion")
        for name, value in report["question"].items():
            print(f"  {name}: {value}")
    if report["failures"]:
        print(f"\n{len(report['failures'])} failures")
        for failure in report["failures"][:10]:
            print(f"  {failure['question_id']!r} ({failure['stage']}): {failure['reason']}")
    for note in report["notes"]:
        print(f"\nnote: {note}")
    print("\nvalid" if report["valid"] else "\nnot valid")
    for problem in report["problems"]:
        print(f"  {problem}")
