"""Write docs/code-map.md: every module by its whole path, with the first line of its docstring.

Run as `python docs/code_map.py`; a test compares the page with the modules.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "code-map.md"
INTRODUCTION = """# Code map

Every module and its one duty, in its own words. Written by `python docs/code_map.py` from the first line of each
docstring (after the command to type, where it begins with one). [Architecture](architecture.md) says how they work
together.
"""


def modules(root: Path) -> list[Path]:
    """Return the paths, relative to `root`, of all modules, by folder; `__init__.py` only with a docstring."""
    found = [*root.glob("*.py"), *(path for top in ("halp_probe", "benchmarks") for path in (root / top).rglob("*.py"))]
    relative = [path.relative_to(root) for path in found if path.name != "__init__.py" or summary(path)]
    return sorted(relative, key=lambda path: (path.parent.parts, path.name))


def summary(path: Path) -> str:
    """Return the docstring's first line that is not a command to type, to the end of its sentence."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraphs = [part for part in docstring.split("\n\n") if part and not part.startswith("python ")]
    if not paragraphs:
        return ""
    first, *rest = paragraphs[0].splitlines()
    if first.endswith((".", "?", "!", ":", ";")):
        return first
    return re.split(r"(?<=[.?!])\s", " ".join([first, *rest]))[0]


def page(root: Path = ROOT) -> str:
    """Return the whole page: a heading and a table for each folder."""
    parts = [INTRODUCTION]
    for folder, paths in groupby(modules(root), key=lambda path: path.parent):
        name = "Scripts" if folder == Path() else f"{folder.as_posix()}/"
        parts.append(f"## {name}\n\n{_table(root, list(paths))}")
    return "\n".join(parts)


def _table(root: Path, paths: Sequence[Path]) -> str:
    rows = [f"| `{path.name}` | {_cell(summary(root / path))} |" for path in paths]
    return "\n".join(["| module | duty |", "| --- | --- |", *rows]) + "\n"


def _cell(text: str) -> str:
    """Return the text as a table's cell, with characters escaped that would end it or be read as markup."""
    pieces = text.split("`")  # every second piece is code
    pieces[::2] = [piece.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_") for piece in pieces[::2]]
    return "`".join(pieces).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
