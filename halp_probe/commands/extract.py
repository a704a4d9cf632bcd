"""`extract.py` and `halp-probe extract`: hidden states and answers of a table's questions, or of a task's items."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halp_probe.commands.arguments import not_negative, positive, positive_number
from halp_probe.commands.image_flags import add_link_argument
from halp_probe.commands.model_flags import add_model_arguments, model_options
from halp_probe.commands.prompt_flags import add_prompt_arguments, template_options
from halp_probe.commands.stopping import StopSignals
from halp_probe.commands.task_inputs import (
    INPUTS,
    PLAIN,
    add_task_arguments,
    input_flags,
    read_task_input,
    usual_limits,
)
from halp_probe.commands.terminal import progress_on_terminal
from halp_probe.extraction.options import RIVALS, ExtractOptions
from halp_probe.models.options import DEFAULT_MODEL
from halp_probe.records import POSITIONS, USUAL_POSITIONS
from halp_probe.shards.failures import FAILURES_FILE
from halp_probe.shards.writer import STORE_DTYPES, check_store_dtype

if TYPE_CHECKING:
    from halp_probe.extraction.outcome import Extraction

LABELS_FILE = "labels.csv"
TEST_SAMPLES = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `extract`."""
    add = parser.add_argument
    add_task_arguments(parser)
    add_link_argument(parser)
    add("--output-dir", type=Path, default=Path("output"), help="shards, journal, run.json, failures.csv (./output)")
    add_capture_arguments(parser, {name: usual_limits(name).max_new_tokens for name in INPUTS})
    add("--no-answers", action="store_true", help="capture states only")
    add("--test", action="store_true", help=f"only the first {TEST_SAMPLES} samples")


def add_capture_arguments(parser: argparse.ArgumentParser, longest: Mapping[str, int]) -> None:
    """Add the flags that say how states and answers are captured; `longest`: usual tokens of an answer, by task."""
    add = parser.add_argument
    add_model_arguments(parser, default=DEFAULT_MODEL)
    add("--checkpoint-interval", type=positive, default=1000, help="samples a shard (%(default)s)")
    add("--layers", help="decoder blocks to read: 'all', or a list such as 0,7,14 (0, n/4, n/2, 3n/4, n-1)")
    add(
        "--positions",
        default=",".join(USUAL_POSITIONS),
        help=f"where they are read: {', '.join(POSITIONS)} (%(default)s)",
    )
    limits = ", ".join(f"{name} {tokens}" for name, tokens in longest.items())
    add("--max-new-tokens", type=positive, help=f"longest answer in tokens (the task's own: {limits})")
    add("--samples", type=not_negative, default=0, help="answers to sample beside the greedy one, for rivals.md (none)")
    add(
        "--rivals",
        type=lambda text: tuple(filter(None, text.split(","))),
        default=(),
        metavar="LIST",
        help=f"ask the model more about each question, into asked.csv: of {','.join(RIVALS)} (none)",
    )
    add("--sample-temperature", type=positive_number, default=1.0, help="of the sampled answers (%(default)s)")
    add("--batch-tokens", type=positive, help="padded tokens a batch (cpu 4096, cuda 16384)")
    add(
        "--workers",
        type=not_negative,
        help="processes that prepare images ahead; 0: a thread (cuda up to 8, cpu 0)",
    )
    add("--no-prefix-sharing", action="store_true", help="process the image again for every question")
    add_prompt_arguments(parser, largest="the task's own, or the processor's")
    add("--no-question-view", action="store_true", help="columns only, without the groups by question")
    add("--store-dtype", default="float32", choices=STORE_DTYPES, help="dtype of the vectors on disk (%(default)s)")
    add(
        "--seed",
        type=int,
        default=0,
        help="seed of torch, of sampled answers, and of the options' order in --task qa (%(default)s)",
    )


def extract_options(args: argparse.Namespace) -> ExtractOptions:
    """Return the options from parsed flags, with the task's own values where no flag is given."""
    limits = usual_limits(args.task)
    values: dict[str, Any] = {
        "source": input_flags(args),
        "model": model_options(args),
        "template_options": template_options(args),
        "max_new_tokens": 0 if args.no_answers else args.max_new_tokens or limits.max_new_tokens,
        "usual_max_pixels": limits.max_pixels,
        "limit": TEST_SAMPLES if args.test else None,
        "prefix_sharing": not args.no_prefix_sharing,
        "question_view": not args.no_question_view,
    }
    values |= {field.name: getattr(args, field.name) for field in fields(ExtractOptions) if field.name not in values}
    return ExtractOptions(**values)


def run(args: argparse.Namespace) -> int:
    """Extract; the exit status is 0, 1 when nothing could be captured, 130 or 143 when stopped by a signal."""
    from halp_probe.extraction.extract import extract_items

    options = extract_options(args)
    check_store_dtype(options.store_dtype, options.question_view)  # fail before a task's data are read
    task_input = read_task_input(args)
    stop = StopSignals()
    with progress_on_terminal() as progress:
        extraction = extract_items(options, task_input, progress=progress, stopping=stop)
    status = report(extraction, stop)
    if status == 0 and args.task != PLAIN and options.max_new_tokens:
        _label(options.output_dir)
    return status


def report(extraction: Extraction, stop: StopSignals) -> int:
    """Print how an extraction ended, and return the exit status."""
    folder, failed = extraction.folder, len(extraction.failures)
    see = f", {failed} failed (see {folder / FAILURES_FILE})" if failed else ""
    print(f"{extraction.captured} questions captured, {extraction.already_done} were there already{see}")
    if extraction.stopped:
        print("Stopped as asked. Nothing finished is lost: run the same command again to resume.")
        return stop.exit_status
    shards = len(list(folder.glob("*.h5")))
    print(f"{folder} holds {shards} {'shard' if shards == 1 else 'shards'}")
    return 0 if extraction.captured + extraction.already_done else 1


def _label(folder: Path) -> None:
    """Write the task's verdicts. A table of all the shards' questions is kept: somebody may have edited it."""
    from halp_probe.commands.label import label_into
    from halp_probe.labels.table import read_labels
    from halp_probe.shards.reader import open_shards

    path = folder / LABELS_FILE
    if path.exists() and set(read_labels(path)) == set(open_shards(folder).question_ids):
        print(f"{path} exists already and was kept; `halp-probe label` writes it anew")
    else:
        label_into(path, folder)
