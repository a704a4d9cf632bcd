"""Sides of a comparison, A and B: the flags of `halp-probe compare` as those of two extractions."""

from __future__ import annotations

import argparse
from typing import Any

from halp_probe.commands.model_flags import model_options
from halp_probe.errors import InputError
from halp_probe.task_files.table import PICTURES

FOLDERS = ("a", "b")  # of the two extractions, in --output-dir
_WAYS = (
    "name two sides: --shards A --shards B, or --model A --model B, or --model M --adapter DIR (M without and with "
    "it), or --model M --revision R1 --revision R2"
)


def two_extractions(args: argparse.Namespace) -> tuple[argparse.Namespace, argparse.Namespace]:
    """Return the arguments of both sides.

    Raises InputError when the flags do not name two sides, or an adapter cannot be opened.
    """
    models, adapters, revisions = (list(named or ()) for named in (args.model, args.adapter, args.revision))
    if len(models) == 2 and adapters:
        raise InputError(
            "--adapter goes with one --model: its sides are the model without and with the adapters. To compare two "
            "models with adapters, extract each with extract.py, and pass --shards twice"
        )
    if adapters and len(models) < 2 and len(revisions) < 2:
        return _without_and_with(args, next(iter(models), None), next(iter(revisions), None))
    if len(models) == 1 and len(revisions) == 2:
        models = 2 * models
    if len(models) != 2 or adapters:
        raise InputError(_WAYS)
    if len(revisions) not in (0, 2):
        raise InputError("give --revision once for each --model, or not at all")
    first, second = (
        _side(args, folder, model=model, revision=revision)
        for folder, model, revision in zip(FOLDERS, models, revisions or (None, None), strict=True)
    )
    return first, second


def _without_and_with(
    args: argparse.Namespace, model: str | None, revision: str | None
) -> tuple[argparse.Namespace, argparse.Namespace]:
    """Return both sides; they take the model and the commit that the adapter names, if it names them."""
    from halp_probe.models.options import open_model

    adapted = _side(args, FOLDERS[1], model=model, revision=revision, adapter=args.adapter)
    opened = open_model(model_options(adapted))
    pinned: dict[str, Any] = {"model": opened.name}
    if not opened.revision.startswith("local-"):
        pinned["revision"] = opened.revision
    return _side(args, FOLDERS[0], **pinned), _side(args, FOLDERS[1], **pinned, adapter=args.adapter)


def _side(args: argparse.Namespace, folder: str, **named: Any) -> argparse.Namespace:
    pictures = args.pictures_dir or args.output_dir / PICTURES  # the same for both
    folders = {"output_dir": args.output_dir / folder, "pictures_dir": pictures}
    own = {"revision": None, "adapter": None, **named, **folders}
    return argparse.Namespace(**{**vars(args), **own})
