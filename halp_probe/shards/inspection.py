"""`inspect_h5.py FILE|FOLDER`: what a shard holds, in numbers, and whether it is valid. Without torch.

Legend: N samples, D width.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from halp_probe.errors import InputError
from halp_probe.shards.failures import read_failures
from halp_probe.shards.names import layer_of
from halp_probe.shards.reader import Shards, open_shards
from halp_probe.shards.validation import problems


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="FILE|FOLDER", help="a shard, or the folder of a run")
    parser.add_argument("--question", metavar="ID", help="show this sample's texts and positions too")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(args: argparse.Namespace) -> int:
    """Print the report; exit status 1 with the reason when a file is not valid."""
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


def inspect(shards: Shards) -> dict[str, Any]:
    """Attributes, samples, layers, every representation's statistics, failures and problems, as plain values."""
    wrong = [f"{path.name}: {problem}" for path in shards.files for problem in problems(path)]
    layers = {layer for name in shards.representations if (layer := layer_of(name)) is not None}
    names = () if wrong else shards.representations
    return {
        "files": [str(path) for path in shards.files],
        "samples": len(shards.question_ids),
        "samples_by_file": list(shards.counts),
        "layers": sorted(layers),
        "attributes": shards.attributes,
        "representations": {name: _statistics(shards.vectors(name)) for name in names},
        "columns": [*shards.text_columns, *shards.number_columns],
        "failures": [asdict(failure) for failure in read_failures(shards.files[0].parent)],
        "notes": list(shards.notes),
        "valid": not wrong,
        "problems": wrong,
    }


def sample_report(shards: Shards, question_id: str) -> dict[str, Any]:
    """One sample's texts, positions and confidence, None for NaN. Raises InputError when there is no such id."""
    if question_id not in shards.question_ids:
        raise InputError(f"no question {question_id!r} in these shards; the first is {shards.question_ids[0]!r}")
    row = shards.question_ids.index(question_id)
    texts = {name: shards.text(name)[row] for name in shards.text_columns}
    numbers = {name: shards.numbers(name)[row].item() for name in shards.number_columns}
    return {**texts, **{name: None if math.isnan(value) else value for name, value in numbers.items()}}


def _statistics(vectors: np.ndarray) -> dict[str, Any]:
    """Of the values that are numbers; NaN are counted."""
    values = vectors[~np.isnan(vectors)].astype(np.float64)
    return {
        "shape": list(vectors.shape),
        "dtype": str(vectors.dtype),
        "mean": float(values.mean()) if len(values) else None,
        "std": float(values.std()) if len(values) else None,
        "min": float(values.min()) if len(values) else None,
        "max": float(values.max()) if len(values) else None,
        "nan": int(np.isnan(vectors).sum()),
    }


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
