"""`halp-probe <command>`, and the same commands as the root scripts run them.

Only the chosen command's module is imported to run; `--help` loads neither torch nor transformers.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from halp_probe.errors import InputError
from halp_probe.version import __version__

# command -> (module with add_arguments and run, one line of help)
COMMANDS = {
    "ablate": ("halp_probe.commands.ablate", "take a probe's direction out of the model: what answers change?"),
    "app": ("halp_probe.commands.app", "chat with a model on a page that shows first how likely it is to be wrong"),
    "caption": ("halp_probe.commands.caption", "describe CaptionQA's images, for qa --captions"),
    "qa": ("halp_probe.commands.qa", "answer CaptionQA's multiple-choice questions, and score the answers"),
    "shapes": ("halp_probe.commands.shapes", "draw a ShapesVQA data set: pictures of shapes and a table of questions"),
    "extract": ("halp_probe.commands.extract", "capture hidden states and answers into HDF5 shards"),
    "dense-caption": ("halp_probe.commands.dense_caption", "describe every object of images with its place"),
    "families": ("halp_probe.commands.families", "list the supported model families"),
    "fuse": ("halp_probe.commands.fuse", "make a VLM of a pretrained vision tower and language model"),
    "audit": ("halp_probe.extraction.audit", "re-tokenise every row of the shards and check the token positions"),
    "inspect": ("halp_probe.shards.inspection", "show what a shard holds and whether it is valid"),
    "compare": ("halp_probe.commands.compare", "which layers moved between two models, or through an adapter"),
    "label": ("halp_probe.commands.label", "judge the answers: right, hallucinated or unknown"),
    "merge": ("halp_probe.commands.merge", "merge adapters into a model's weights, proved before it is kept"),
    "score": ("halp_probe.commands.score", "risk of a wrong answer before the first token; answers what is safe"),
    "set-threshold": ("halp_probe.commands.set_threshold", "choose above which risk a saved probe abstains"),
    "vqa": ("halp_probe.commands.vqa", "answer a table of questions on images, and judge the answers"),
    "stage-a": ("halp_probe.commands.stage_a", "one line on each image of groups of images, for a mission"),
    "stage-b": ("halp_probe.commands.stage_b", "does each group pass? asked with the lines of stage-a"),
    "train-vlm": ("halp_probe.commands.train_vlm", "train a VLM of one's own: connector, then connector and LoRA"),
    "train-probes": (
        "halp_probe.commands.train_probes",
        "train a probe on every representation and compare with baselines",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `halp-probe`; the exit status. An error of the input prints one line and gives 2."""
    parser = argparse.ArgumentParser(
        prog="halp-probe", description="Probes on a VLM's hidden states.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"halp_probe {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    arguments = sys.argv[1:] if argv is None else list(argv)
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if name in arguments[:1]:
            importlib.import_module(module).add_arguments(command)
    return _run(parser.parse_args(arguments))


def run_script(command: str, description: str | None, argv: Sequence[str] | None = None) -> int:
    """Run one command as a script of its own."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=32),
        allow_abbrev=False,
    )
    importlib.import_module(COMMANDS[command][0]).add_arguments(parser)
    return _run(parser.parse_args(argv, argparse.Namespace(command=command)))


def _run(args: argparse.Namespace) -> int:
    module = importlib.import_module(COMMANDS[args.command][0])
    try:
        status: int = module.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return status
