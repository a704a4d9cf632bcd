"""`halp-probe caption`: one caption of each image of CaptionQA, for `halp-probe qa --captions`."""

from __future__ import annotations

import argparse

from halp_probe.answering.options import UsualLimits
from halp_probe.commands.answer_flags import add_answer_arguments, answer_options
from halp_probe.commands.qa import (
    DATASET,
    DEFAULT_MODEL,
    PICTURES,
    add_dataset_arguments,
    add_output_arguments,
    report_cut_off,
)
from halp_probe.commands.task_run import report_outcome, run_task
from halp_probe.errors import InputError
from halp_probe.task_files.caption_qa import read_images, write_captions
from halp_probe.tasks.captions import PROMPT_STYLES, CaptionItem
from halp_probe.tasks.task import TaskInput

USUAL = UsualLimits(max_new_tokens=500)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `caption`."""
    add_dataset_arguments(parser)
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", metavar="TEXT", help="what to ask of each image")
    prompt.add_argument("--prompt-style", choices=PROMPT_STYLES, default="simple", help="or one of these (%(default)s)")
    add_output_arguments(parser, "SPLIT_captions_MODEL.json")
    add_answer_arguments(parser, model=DEFAULT_MODEL, batch_size=4, usual=USUAL)


def read_input(args: argparse.Namespace) -> TaskInput[CaptionItem, str]:
    """Read the images to caption. Raises what `read_images` raises, and InputError for a blank prompt."""
    prompt = PROMPT_STYLES[args.prompt_style] if args.prompt is None else args.prompt
    if not prompt.strip():
        raise InputError("--prompt is blank; say what to ask of each image")
    return read_images(args.dataset or DATASET, args.split, args.output_dir / PICTURES, prompt)


def run(args: argparse.Namespace) -> int:
    """Caption the images, and return the exit status of `run_task`."""
    options = answer_options(args)
    output = args.output_path or args.output_dir / f"{args.split}_captions_{options.model.base_name}.json"
    task_input = read_input(args)
    task_run = run_task(task_input, options, output)
    answered = task_run.answered
    items = [item for item in task_input.items if item.image_id in answered.replies]
    found = write_captions(output, ((item, answered.replies[item.image_id].text) for item in items))
    print(f"{output}: {len(found)} captions")
    report_cut_off(answered.replies.values())
    if empty := [item.image_id for item in items if item.image_id not in found]:
        print(
            f"{len(empty)} replies hold no caption (first: {empty[0]!r}); another prompt or more --max-tokens may help"
        )
    return report_outcome(task_run)
