"""`halp-probe qa`: answer CaptionQA's multiple-choice questions from images or from captions, and score the answers."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from halp_probe.answering.options import UsualLimits
from halp_probe.commands.answer_flags import add_answer_arguments, answer_options
from halp_probe.commands.arguments import add_shared
from halp_probe.commands.task_run import report_outcome, run_task
from halp_probe.labels.letters import Choice
from halp_probe.task_files.caption_qa import read_questions, write_results
from halp_probe.task_files.captionqa_rows import DOMAINS
from halp_probe.task_files.splits import ALL
from halp_probe.tasks.caption_qa import QaItem, parse
from halp_probe.tasks.caption_qa_options import SHUFFLES
from halp_probe.tasks.caption_qa_results import Tally, summary
from halp_probe.tasks.task import TaskInput

if TYPE_CHECKING:
    from halp_probe.answering.replies import Reply

DEFAULT_MODEL = "Qwen/Qwen3-VL-8B-Instruct"
USUAL = UsualLimits(max_new_tokens=128)
DATASET = "Borise/CaptionQA"
PICTURES = "images"  # folder in --output-dir


def add_input_arguments(group: argparse._ActionsContainer) -> None:
    """Add the flags that select the questions; --output-dir and --seed matter too."""
    add_dataset_arguments(group)
    add = group.add_argument
    add(
        "--shuffle", choices=SHUFFLES, default="stable", help="how options are ordered; sequential: as CaptionQA's code"
    )
    add("--captions", type=Path, metavar="FILE", help="answer from these captions instead of the images")


def add_dataset_arguments(group: argparse._ActionsContainer) -> None:
    """Add the flags that name a split of CaptionQA."""
    add = group.add_argument
    add_shared(group, "--dataset", help=f"hub name, folder, parquet or JSON file ({DATASET})")
    add("--split", choices=(*DOMAINS, ALL), default=ALL, help="the domain (%(default)s)")


def add_output_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the flags for where a task on CaptionQA writes; `name` is the file's name in the help."""
    add = parser.add_argument
    add("--output-dir", type=Path, default=Path("outputs"), help="results, replies, images (./outputs)")
    add("--output-path", type=Path, metavar="FILE", help=f"the JSON file to write (OUTPUT_DIR/{name})")


def read_input(args: argparse.Namespace) -> TaskInput[QaItem, Choice]:
    """Read the questions. Raises what `read_questions` raises."""
    return read_questions(
        args.dataset or DATASET,
        args.split,
        args.output_dir / PICTURES,
        shuffle=args.shuffle,
        seed=args.seed,
        captions_file=args.captions,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `qa`."""
    add_input_arguments(parser)
    add_output_arguments(parser, "SPLIT_qa_image_local_MODEL.json")
    add_answer_arguments(parser, model=DEFAULT_MODEL, batch_size=4, usual=USUAL)


def report_cut_off(replies: Iterable[Reply]) -> None:
    """Print how many replies ended at the token limit."""
    if cut := [reply.key for reply in replies if not reply.finished]:
        print(f"{len(cut)} replies were cut off at --max-tokens (first: {cut[0]!r}); more may change the results")


def run(args: argparse.Namespace) -> int:
    """Answer and score, and return the exit status of `run_task`."""
    options = answer_options(args)
    shows = "caption" if args.captions else "image"
    name = f"{args.split}_qa_{shows}_local_{options.model.base_name}.json"
    output = args.output_path or args.output_dir / name
    task_input = read_input(args)
    tally = Tally(task_input.items)

    def watch(new: Sequence[Reply]) -> str:
        for reply in new:
            tally.add(reply.key, reply.text)
        return str(tally)

    task_run = run_task(task_input, options, output, watch)
    answered = task_run.answered
    answers = [(item, answered.replies[item.key].text) for item in task_input.items if item.key in answered.replies]
    metrics = write_results(output, answers, options.model.model or options.model.adapter[0], args.split)
    print(f"{output}: {summary(metrics)}")
    if unread := [(item.key, choice.reason) for item, text in answers if (choice := parse(item, text)).index is None]:
        print(f"{len(unread)} replies choose no option (first: {unread[0][0]!r}: {unread[0][1]}); they score 0")
    report_cut_off(answered.replies.values())
    return report_outcome(task_run)
