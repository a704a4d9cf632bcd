"""The house stands: arrows go down only, and below the commands nothing parses arguments, prints or exits."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import halp_probe

ROOT = Path(__file__).parents[1]
# What one starts as a process of its own, with arguments: the trainers of what is bundled.
ENTRY_MODULES = {"halp_probe/shapes/train.py", "halp_probe/shapes/parts_training.py"}
BELOW = sorted(
    path
    for path in (ROOT / "halp_probe").rglob("*.py")
    if path.relative_to(ROOT).as_posix() not in ENTRY_MODULES | {"halp_probe/cli.py"} and path.parent.name != "commands"
)


def shell_calls(source: str) -> list[str]:
    """What only a shell may do, as `line: what`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            if "argparse" in names:
                found.append(f"{node.lineno}: argparse")
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in ("print", "sys.exit", "exit", "quit"):
                found.append(f"{node.lineno}: {name}")
    return found


def test_below_the_commands_nothing_parses_prints_or_exits() -> None:
    found = {path.relative_to(ROOT).as_posix(): shell_calls(path.read_text()) for path in BELOW}
    assert len(found) > 250 and {name: calls for name, calls in found.items() if calls} == {}


def test_what_only_a_shell_may_do_would_be_found() -> None:
    planted = "import argparse\nfrom argparse import Namespace\nprint('x')\nsys.exit(2)\n"
    assert [each.split(": ")[1] for each in shell_calls(planted)] == ["argparse", "argparse", "print", "sys.exit"]


def raised_texts(source: str) -> list[str]:
    """The texts inside `raise` statements and Failures."""
    texts = []
    for node in ast.walk(ast.parse(source)):
        raised = isinstance(node, ast.Raise) and node.exc is not None
        if raised or (isinstance(node, ast.Call) and ast.unparse(node.func) == "Failure"):
            texts += [
                each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)
            ]
    return texts


def test_errors_below_the_commands_name_parameters_not_flags() -> None:
    """A notebook's user has no flags; `commands.terminal.with_flags` puts them in for the shell's."""
    texts = [(path.name, text) for path in BELOW for text in raised_texts(path.read_text())]
    assert len(texts) > 300 and [each for each in texts if " --" in f" {each[1]}"] == []


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    return subprocess.run(call, cwd=root, env={"PYTHONPATH": str(root)}, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("module", "planted", "kept"),
    [
        ("halp_probe/version.py", "", True),
        ("halp_probe/shards/names.py", "import halp_probe.engine.images", False),
        ("halp_probe/engine/positions.py", "from halp_probe.commands.arguments import positive", False),
        ("halp_probe/probes/judging/tally.py", "import halp_probe.probes.study", False),
    ],
)
def test_arrows_go_down_and_one_that_goes_up_is_found(tmp_path: Path, module: str, planted: str, kept: bool) -> None:
    shutil.copytree(ROOT / "halp_probe", tmp_path / "halp_probe", ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / module
    path.write_text(f"{path.read_text()}\n{planted}\n")
    done = lint_imports(tmp_path)
    assert (done.returncode == 0) == kept, done.stdout + done.stderr


def test_public_names_stand_once_and_can_all_be_had() -> None:
    stub = ast.parse((ROOT / "halp_probe" / "__init__.pyi").read_text())
    names = [alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(halp_probe.__all__) == sorted(names) and len(set(names)) == len(names)
    assert all(hasattr(halp_probe, name) for name in names)
    assert set(names) <= set(dir(halp_probe))
