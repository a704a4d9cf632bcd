"""`halp-probe compare`: how far each layer moved between two models, or between a model and its adapter.

Two folders of shards are compared; where models are named instead, each is extracted first, resumably.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from halp_probe.commands import extract as extraction
from halp_probe.commands.arguments import at_least_two
from halp_probe.commands.compare_sides import FOLDERS, two_extractions
from halp_probe.errors import InputError

PLOT_FILE = "comparison.svg"
_OF_EXTRACTION = ("model", "adapter", "revision", "vqa_dataset", "images_dir", "columns", "layers")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `compare`."""
    extraction.add_arguments(parser)  # for both sides alike; some are replaced below
    group = parser.add_argument_group("what is compared", "B against A", conflict_handler="resolve")
    add = group.add_argument
    add("--shards", type=Path, action="append", metavar="FOLDER", help="a finished extraction; twice: A, then B")
    add("--model", action="append", help="hub name or folder, extracted first; twice: A, then B; 'shapes' is bundled")
    add(
        "--adapter",
        action="append",
        metavar="DIR",
        help="PEFT adapter: A is the model without, B with it; several: one flag each, in training order",
    )
    add("--revision", action="append", help="branch, tag or commit; once a --model, or twice for two of one model")
    add("--output-dir", type=Path, required=True, help="comparison.csv, .svg, changed_answers.csv; extractions a/, b/")
    add("--common-only", action="store_true", help="leave out questions that only one side has")
    add("--bootstrap", type=at_least_two, default=1000, metavar="DRAWS", help="draws for the intervals (%(default)s)")
    add(
        "--seed", type=int, default=0, help="seed of the intervals, of CKA's choice of rows, and of torch (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Compare, and return 0 or the exit status of an extraction that failed. Raises InputError for unusable input."""
    if args.shards is None:
        folders = [args.output_dir / name for name in FOLDERS]
        if status := _extract_both(args):
            return status
    else:
        folders = _shard_folders(args)
    compare_folders(folders, args)
    return 0


def compare_folders(folders: Sequence[Path], args: argparse.Namespace) -> None:
    """Write and print what moved from the shards in the first folder to those in the second."""
    from halp_probe.bootstrap import Draws
    from halp_probe.comparison import outputs
    from halp_probe.comparison.compare import compare
    from halp_probe.comparison.pairing import pair
    from halp_probe.comparison.plot import comparison_svg
    from halp_probe.files import write_bytes
    from halp_probe.shards.reader import open_shards

    a, b = (open_shards(folder) for folder in folders)
    found = compare(pair(a, b, common_only=args.common_only), draws=Draws(count=args.bootstrap, seed=args.seed))
    names = [f"{outputs.side_name(shards)} ({folder})" for shards, folder in zip((a, b), folders, strict=True)]
    outputs.write_comparison(args.output_dir / outputs.COMPARISON_FILE, found)
    outputs.write_changed_answers(args.output_dir / outputs.ANSWERS_FILE, found)
    write_bytes(args.output_dir / PLOT_FILE, comparison_svg(found, *names))
    print(f"A: {names[0]}\nB: {names[1]}\n{outputs.table(found)}\n")
    print(f"{args.output_dir} holds {outputs.COMPARISON_FILE}, {PLOT_FILE} and {outputs.ANSWERS_FILE}")


def _extract_both(args: argparse.Namespace) -> int:
    """Extract both sides, and return the first exit status that is not 0."""
    if args.vqa_dataset is None:
        raise InputError("--vqa-dataset is missing; both models answer its questions. Or pass --shards twice")
    for name, side in zip("AB", two_extractions(args), strict=True):
        print(f"{name}:", end=" ", flush=True)
        if status := extraction.run(side):
            return status
    return 0


def _shard_folders(args: argparse.Namespace) -> list[Path]:
    if len(args.shards) != 2:
        raise InputError(f"--shards is given {len(args.shards)} times; give it twice: A, then B")
    if extra := [name for name in _OF_EXTRACTION if getattr(args, name) is not None]:
        raise InputError(f"`{extra[0]}` does not go with --shards, which are extracted already")
    return list(args.shards)
