"""The flag of every command that reads a user's folder of images, and the folder that it describes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import overload

from halp_probe.engine.images import ImageFolder


def add_link_argument(parser: argparse._ActionsContainer) -> None:
    """Add `--allow-links`."""
    parser.add_argument(
        "--allow-links", action="store_true", help="follow links in the folder of images that lead out of it"
    )


@overload
def image_folder(path: Path, args: argparse.Namespace) -> ImageFolder: ...
@overload
def image_folder(path: None, args: argparse.Namespace) -> None: ...
def image_folder(path: Path | None, args: argparse.Namespace) -> ImageFolder | None:
    """Return the folder with what the flag says about its links; None for none."""
    return None if path is None else ImageFolder(path, args.allow_links)
