"""`halp-probe fuse`: build a VLM from a pretrained vision tower, a pretrained language model and a new connector."""

from __future__ import annotations

import argparse
from pathlib import Path

from halp_probe.commands.arguments import not_negative
from halp_probe.commands.part_flags import add_part_arguments, fused_parts
from halp_probe.errors import InputError
from halp_probe.files import whole_folder
from halp_probe.fused.options import ADAPTER, MODEL
from halp_probe.models.options import DTYPES, quiet_libraries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `fuse`."""
    add_part_arguments(parser)
    add = parser.add_argument
    add("--connector", type=Path, metavar="FILE", help="final_connector.pth of the original's format (fresh weights)")
    add(
        "--lora",
        type=Path,
        metavar="DIR",
        help="final_lora_model of the original's format, together with its --connector",
    )
    add(
        "--output-dir",
        type=Path,
        required=True,
        help="gets model/, and adapter/ with --lora; must not exist, or be empty",
    )
    add(
        "--dtype",
        choices=DTYPES,
        default="auto",
        help="dtype of the weights (auto: the smallest that holds those of both parts)",
    )
    add("--seed", type=not_negative, default=0, help="seed of a fresh connector (%(default)s)")
    add("--cache-dir", default="./model_cache", help="where downloaded models are kept (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Build and write; the exit status is 0.

    Raises InputError for parts that do not go together; nothing is left on the disk then.
    """
    _check(args)
    from halp_probe.fused.model import build, connector, save
    from halp_probe.fused.original import load_connector
    from halp_probe.fused.original_lora import adapter_from_original

    quiet_libraries()
    with whole_folder(args.output_dir) as folder:
        parts = fused_parts(args)
        fused = build(parts, cache_dir=args.cache_dir, dtype=args.dtype, seed=args.seed)
        if args.connector is not None:
            load_connector(fused.model, args.connector)
        if args.lora is not None:
            base = str(args.output_dir.resolve() / MODEL)
            adapter_from_original(args.lora, fused.model, folder / ADAPTER, base=base)
        save(fused, folder / MODEL)
    model = fused.model
    trained = sum(parameter.numel() for parameter in connector(model).parameters())
    whole = sum(parameter.numel() for parameter in model.parameters())
    read = "after" if args.vision_layernorm else "before"
    print(
        f"{args.output_dir / MODEL}: {parts.vision} and {parts.language}, {whole / 1e6:,.1f} M parameters in "
        f"{str(model.dtype).removeprefix('torch.')}; its connector of {trained / 1e6:,.2f} M, "
        f"{'fresh' if args.connector is None else 'from ' + str(args.connector)}, reads the tower's states {read} the "
        "final LayerNorm"
    )
    if args.lora is not None:
        print(f"{args.output_dir / ADAPTER}: the adapter {args.lora}; pass it as --adapter with that --model")
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.connector is not None and args.vision_layernorm is None:
        raise InputError(
            f"--connector {args.connector}: the file does not say whether it was trained on states after the vision "
            "tower's final LayerNorm (the original's were) or before it; pass --vision-layernorm or "
            "--no-vision-layernorm"
        )
    if args.lora is not None and args.connector is None:
        raise InputError(f"--lora {args.lora} was trained together with a connector; pass its --connector too")
    if args.tiles and args.connector is not None:
        raise InputError("--tiles: the original's files hold no vector for a newline; leave --tiles or --connector out")
