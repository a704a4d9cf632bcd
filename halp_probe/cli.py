"""The command line `halp-probe <command>`, and the same commands for the scripts in the root folder.

Only the chosen command's module is imported to run; `--help` loads neither torch nor transformers.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from halp_probe.commands.terminal import log_on_terminal, with_flags
from halp_probe.errors import InputError
from halp_probe.extras import missing_extra
from halp_probe.plain_text import shorten
from halp_probe.version import __version__

_LONGEST_ERROR = 4000  # characters

# command -> one line of help; its module is the one of that name in `commands`
COMMANDS = {
    "ablate": "remove a probe's direction from the model: which answers change?",
    "app": "chat with a model on a page that first shows how likely it is to be wrong",
    "caption": "describe CaptionQA's images, for qa --captions",
    "qa": "answer CaptionQA's multiple-choice questions, and score the answers",
    "shapes": "draw a ShapesVQA data set: pictures of shapes and a table of questions",
    "extract": "capture hidden states and answers into HDF5 shards",
    "dense-caption": "describe every object in images, with its place",
    "datasets": "list the benchmarks that are known by name, or check a download of one",
    "families": "list the supported model families",
    "fuse": "build a VLM from a pretrained vision tower and language model",
    "audit": "re-tokenise every row of the shards and check the token positions",
    "inspect": "show what a shard holds and whether it is valid",
    "check": "try a model before a long run: weights, prompt, positions, states, answers, cost",
    "compare": "compare two models, or one with and without an adapter, layer by layer",
    "label": "judge the answers: right, hallucinated or unknown",
    "merge": "merge adapters into a model's weights, and prove the result before it is kept",
    "rivals": "measure uncertainty from the answers that extract sampled",
    "score": "estimate the risk of a wrong answer before the first token; answer what is safe",
    "set-threshold": "choose the risk above which a saved probe abstains",
    "vqa": "answer a table of questions on images, and judge the answers",
    "study": "extract, label, train and report, in one command that can be killed and run again",
    "stage-a": "write one line on each image of groups of images, for a mission",
    "stage-b": "decide whether each group passes, from the lines of stage-a",
    "train-vlm": "train your own VLM: connector, then connector and LoRA",
    "train-probes": "train a probe on every representation and compare with baselines",
}


def module_of(command: str) -> Any:
    """Import the module with the command's `add_arguments` and `run`."""
    return importlib.import_module(f"halp_probe.commands.{command.replace('-', '_')}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `halp-probe` and return the exit status. An input error prints one line and returns 2."""
    parser = argparse.ArgumentParser(
        prog="halp-probe", description="Probes on a VLM's hidden states.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"halp_probe {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    arguments = sys.argv[1:] if argv is None else list(argv)
    chosen = parser
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if name in arguments[:1]:
            module_of(name).add_arguments(command)
            chosen = command
    return _run(parser.parse_args(arguments), chosen)


def run_script(command: str, description: str | None, argv: Sequence[str] | None = None) -> int:
    """Run one command as a script of its own."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=32),
        allow_abbrev=False,
    )
    module_of(command).add_arguments(parser)
    return _run(parser.parse_args(argv, argparse.Namespace(command=command)), parser)


def _run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an answer may hold what the terminal cannot show
    try:
        with log_on_terminal(parser):
            status: int = module_of(args.command).run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has closed the pipe, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except InputError as error:
        print(f"error: {shorten(with_flags(str(error), parser), _LONGEST_ERROR)}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (remedy := missing_extra(error)) is None:
            raise
        print(f"error: {remedy}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return status
