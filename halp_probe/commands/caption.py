"""`halp-probe caption`: one caption of each image of CaptionQA, for `halp-probe qa --captions`."""

from __future__ import annotations

import argparse

from halp_probe.answering.options import AnswerOptions, Usual, add_answer_arguments
from halp_probe.commands.qa import (
    DEFAULT_MODEL,
    PICTURES,
    add_dataset_arguments,
    add_output_arguments,
    tell_cut_off,
)
from halp_probe.errors import InputError
from halp_probe.task_files.caption_qa import read_images, write_captions
from halp_probe.tasks.captions import PROMPT_STYLES, CaptionItem
from halp_probe.tasks.task import TaskInput

USUAL = Usual(max_new_tokens=500)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_arguments(parser)
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--prompt", metavar="TEXT", help="what to ask of each image")
    asked.add_argument("--prompt-style", choices=PROMPT_STYLES, default="simple", help="or one of these (%(default)s)")
    add_output_arguments(parser, "SPLIT_captions_MODEL.json")
    add_answer_arguments(parser, model=DEFAULT_MODEL, batch_size=4, usual=USUAL)


def read_input(args: argparse.Namespace) -> TaskInput[CaptionItem, str]:
    """Raises what `read_images` raises, and InputError for a blank prompt."""
    prompt = PROMPT_STYLES[args.prompt_style] if args.prompt is None else args.prompt
    if not prompt.strip():
        raise InputError("--prompt is blank; say what to ask of each image")
    return read_images(args.dataset, args.split, args.output_dir / PICTURES, prompt)


def run(args: argparse.Namespace) -> int:
    """Caption; the exit status is that of `answer_task`."""
    from halp_probe.answering.run import answer_task

    options = AnswerOptions.of(args)
    output = args.output_path or args.output_dir / f"{args.split}_captions_{options.model.base_name}.json"
    given = read_input(args)
    answered = answer_task(given, options, output)
    items = [item for item in given.items if item.image_id in answered.replies]
    found = write_captions(output, ((item, answered.replies[item.image_id].text) for item in items))
    print(f"{output}: {len(found)} captions")
    tell_cut_off(answered.replies.values())
    if empty := [item.image_id for item in items if item.image_id not in found]:
        print(
            f"{len(empty)} replies hold no caption (first: {empty[0]!r}); another prompt or more --max-tokens may help"
        )
    answered.tell()
    return answered.exit_status
