"""The figures of a benchmark as a JSON file, beside the table that it prints. Standard library only."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the flag `--json FILE`."""
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")


def write_figures(path: Path | None, figures: Any) -> None:
    """Write the file as a whole, so that a kill leaves the last one; without a path do nothing.

    A benchmark calls this whenever it has measured something more, so that one that is stopped leaves what it has.
    """
    if path is None:
        return
    whole = path.with_name(f"{path.name}.part")
    whole.write_text(json.dumps(figures, indent=2) + "\n")
    whole.replace(path)
