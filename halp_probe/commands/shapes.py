"""`halp-probe shapes`: draw a ShapesVQA data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from halp_probe.commands.arguments import positive
from halp_probe.shapes.dataset import write_dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `shapes`."""
    parser.add_argument("--output-dir", type=Path, required=True, help="gets vqa.csv and images/")
    parser.add_argument("--scenes", type=positive, default=400, help="pictures to draw (%(default)s)")
    parser.add_argument("--questions", type=positive, default=6, help="questions on each picture (%(default)s)")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of the first picture; the next have seed + 1, seed + 2, … (%(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Draw the data set; the exit status is 0."""
    count = write_dataset(args.output_dir, n_scenes=args.scenes, questions_a_scene=args.questions, seed=args.seed)
    print(f"{args.scenes} pictures and {count} questions in {args.output_dir}")
    return 0
