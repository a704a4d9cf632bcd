"""Which task's items a command asks about: the tasks' own input flags, side by side on one command line."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from halp_probe.answering.options import Usual
from halp_probe.errors import InputError
from halp_probe.tasks.task import TaskInput

PLAIN = "vqa"
# task -> the module that adds its input's flags, reads it, and has its USUAL limits
INPUTS = {
    PLAIN: "halp_probe.commands.vqa",
    "qa": "halp_probe.commands.qa",
    "dense-caption": "halp_probe.commands.dense_caption",
    "stage-a": "halp_probe.commands.stage_a",
    "stage-b": "halp_probe.commands.stage_b",
}


def add_task_arguments(parser: argparse.ArgumentParser) -> None:
    """`--task`, and for each task the flags that say which items."""
    parser.add_argument(
        "--task", choices=INPUTS, default=PLAIN, help="what is asked: each has flags of its own, below (%(default)s)"
    )
    for name in INPUTS:
        _module(name).add_input_arguments(parser.add_argument_group(f"--task {name}"))


def read_task_input(args: argparse.Namespace) -> TaskInput[Any, Any]:
    """The chosen task's items. Raises InputError for a flag of another task, and what reading them raises."""
    own = _flags(args.task)
    for name in INPUTS:
        for flag, default in _flags(name).items():
            if flag not in own and getattr(args, flag) != default:
                raise InputError(f"--{flag.replace('_', '-')} belongs to --task {name}, not to {args.task}")
    given: TaskInput[Any, Any] = _module(args.task).read_input(args)
    return given


def input_flags(args: argparse.Namespace) -> dict[str, Any]:
    """The chosen task's input flags as they were given, as JSON values."""
    return {name: _plain(getattr(args, name)) for name in _flags(args.task)}


def usual(task: str) -> Usual:
    """What the task's replies need where no flag says otherwise."""
    limits: Usual = _module(task).USUAL
    return limits


def _module(task: str) -> Any:
    return importlib.import_module(INPUTS[task])


def _flags(task: str) -> dict[str, Any]:
    """The task's input flags with their defaults."""
    parser = argparse.ArgumentParser(add_help=False)
    _module(task).add_input_arguments(parser)
    return vars(parser.parse_args([]))


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
