"""`halp-probe check`: try a model before a long run; the output is what to paste into a report of a fault."""

from __future__ import annotations

import argparse
from pathlib import Path

from halp_probe.commands.image_flags import add_link_argument, image_folder
from halp_probe.commands.model_flags import add_model_arguments, model_options
from halp_probe.commands.prompt_flags import add_prompt_arguments, template_options
from halp_probe.models.options import DEFAULT_MODEL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `check`."""
    parser.add_argument("name", nargs="?", metavar="MODEL", help="hub name or folder, as --model")
    parser.add_argument("--images-dir", type=Path, help="pictures whose tokens are counted (made ones)")
    add_link_argument(parser)
    add_model_arguments(parser, default=DEFAULT_MODEL)
    add_prompt_arguments(parser, largest="the processor's")


def run(args: argparse.Namespace) -> int:
    """Check, and print a line or more a check; the exit status is 0, or 1 if one failed."""
    from halp_probe.engine.prompting import Prompter
    from halp_probe.errors import InputError
    from halp_probe.extraction.check import check_model
    from halp_probe.models.options import load_model_weights, open_model

    if args.name is not None and args.model is not None:
        raise InputError("the model is named twice: leave `model` out")
    args.model = args.model or args.name
    if args.images_dir is not None and not args.images_dir.is_dir():
        raise InputError(f"`images_dir` {args.images_dir} is not a folder")
    options = model_options(args)
    checkpoint = open_model(options)
    prompter = Prompter(
        checkpoint=checkpoint,
        min_pixels=args.min_pixels,
        max_pixels=args.max_pixels,
        date=args.prompt_date,
        template_options=template_options(args),
        system=args.system_prompt,
    )
    images_dir = image_folder(args.images_dir, args)
    failed = 0
    for finding in check_model(load_model_weights(options, checkpoint), prompter, images_dir):
        failed += not finding.passed
        lines = finding.text.splitlines()
        print(f"{'ok  ' if finding.passed else 'FAIL'} {finding.subject}: {lines[0]}")
        for line in lines[1:]:
            print(f"     {line}")
    print("All checks passed." if not failed else f"{failed} of the checks failed.")
    return 1 if failed else 0
