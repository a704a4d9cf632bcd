"""`halp-probe audit`: re-tokenise every row of the shards and check the stored token positions."""

from __future__ import annotations

import argparse
from pathlib import Path

from halp_probe.commands.image_flags import add_link_argument, image_folder
from halp_probe.extraction.audit import audit
from halp_probe.shards.reader import open_shards


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `audit`."""
    parser.add_argument("--shards", type=Path, required=True, help="folder of shards, or one")
    parser.add_argument(
        "--images-dir", type=Path, help="folder of the images that were captured (not needed for text alone)"
    )
    add_link_argument(parser)
    parser.add_argument("--model", help="hub name or folder (what the shards name)")
    parser.add_argument("--cache-dir", default="./model_cache", help="where downloaded models are kept (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Print how many rows agree; the exit status is 1 when one does not."""
    shards = open_shards(args.shards)
    mismatches = list(audit(shards, image_folder(args.images_dir, args), args.model, args.cache_dir))
    rows = len(shards.question_ids)
    for mismatch in mismatches[:10]:
        print(f"{mismatch.question_id}: {mismatch.name} is {mismatch.stored}, the prompt says {mismatch.found}")
    wrong = len({mismatch.question_id for mismatch in mismatches})
    print(f"{rows - wrong} of {rows} rows: stored token positions and ids are those of the prompt's input ids")
    return 1 if mismatches else 0
