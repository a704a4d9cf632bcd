"""The README tells the truth about the files there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_file_tree_names_every_module() -> None:
    readme = (ROOT / "README.md").read_text()
    modules = {path.name for path in (ROOT / "halp_probe").rglob("*.py")} - {"__init__.py"}
    named = set(re.findall(r"\w+\.py", readme))
    assert modules - named == set()
    scripts = {path.name for folder in (ROOT, ROOT / "benchmarks") for path in folder.glob("*.py")}
    tests = {path.name for path in (ROOT / "tests").glob("*.py")}
    assert named - modules - scripts - tests == set()
