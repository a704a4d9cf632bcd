"""`halp-probe merge`: merge adapters into the weights of a new checkpoint, verified before it gets its name."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from halp_probe.commands.model_flags import add_naming_arguments, model_options
from halp_probe.models.options import DTYPES, open_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `merge`."""
    add_naming_arguments(parser, default=None)
    add = parser.add_argument
    add("--output-dir", type=Path, required=True, help="folder of the merged checkpoint; must not exist, or be empty")
    add("--max-shard-size", type=_size, default="5GB", help="largest file of weights (%(default)s)")
    add("--dtype", choices=DTYPES[1:], help="dtype of the saved weights (the base's own)")
    add("--device", default="cpu", help="where to work, in float32 (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Merge and verify; the exit status is 0.

    Raises InputError for what cannot be merged; nothing is left on the disk then.
    """
    from halp_probe.merging.checkpoint import TOLERANCE, merge_adapters

    checkpoint = open_model(model_options(args))
    merged = merge_adapters(
        checkpoint,
        args.output_dir,
        dtype=args.dtype,
        max_shard_size=args.max_shard_size,
        cache_dir=args.cache_dir,
        device=args.device,
    )
    names = ", then ".join(adapter.name for adapter in checkpoint.adapters)
    print(f"{args.output_dir}: {checkpoint.name} with {names} merged; {merged.size / 1e6:,.1f} MB, {merged.dtype}")
    print(
        f"largest difference from the model with the adapters beside its weights: {merged.total:.2g} of a vector's "
        f"length; of that, merging in float32 {merged.merging:.2g} and saving {merged.saving:.2g} (allowed: "
        f"{TOLERANCE:g} each){'' if merged.dtype == 'float32' else f', the rest rounding to {merged.dtype}'}"
    )
    return 0


def _size(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d*(KB|MB|GB)", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 500MB or 5GB")
    return text
