"""Items that a command asks about: the input flags of all tasks, side by side on one command line."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from halp_probe.answering.options import UsualLimits
from halp_probe.errors import InputError
from halp_probe.tasks.task import TaskInput

PLAIN = "vqa"
# task -> the module that adds its input flags, reads its input, and holds its USUAL limits
INPUTS = {
    PLAIN: "halp_probe.commands.vqa",
    "qa": "halp_probe.commands.qa",
    "dense-caption": "halp_probe.commands.dense_caption",
    "stage-a": "halp_probe.commands.stage_a",
    "stage-b": "halp_probe.commands.stage_b",
}


def add_task_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--task`, and for each task the flags that select its items."""
    parser.add_argument(
        "--task", choices=INPUTS, default=PLAIN, help="kind of questions; each has its own flags, below (%(default)s)"
    )
    for name in INPUTS:
        _module(name).add_input_arguments(parser.add_argument_group(f"--task {name}"))


def read_task_input(args: argparse.Namespace) -> TaskInput[Any, Any]:
    """Read the chosen task's items. Raises InputError for a flag of another task, and what reading them raises."""
    own = _flags(args.task)
    for name in INPUTS:
        for flag, default in _flags(name).items():
            if flag not in own and getattr(args, flag) != default:
                raise InputError(f"--{flag.replace('_', '-')} belongs to --task {name}, not to {args.task}")
    task_input: TaskInput[Any, Any] = _module(args.task).read_input(args)
    return task_input


def input_flags(args: argparse.Namespace) -> dict[str, Any]:
    """Return the chosen task's input flags as JSON values."""
    return {name: _plain(getattr(args, name)) for name in _flags(args.task)}


def usual_limits(task: str) -> UsualLimits:
    """Return the limits of the task's replies, for flags that are not given."""
    limits: UsualLimits = _module(task).USUAL
    return limits


def _module(task: str) -> Any:
    return importlib.import_module(INPUTS[task])


def _flags(task: str) -> dict[str, Any]:
    """Return the task's input flags with their defaults."""
    parser = argparse.ArgumentParser(add_help=False)
    _module(task).add_input_arguments(parser)
    return vars(parser.parse_args([]))


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
