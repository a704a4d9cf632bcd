"""`halp-probe vqa`: answer a table of questions on images, and judge the answers."""

from __future__ import annotations

import argparse
from pathlib import Path

from halp_probe.answering.options import UsualLimits
from halp_probe.commands.answer_flags import add_answer_arguments, answer_options
from halp_probe.commands.image_flags import add_link_argument, image_folder
from halp_probe.commands.named_flags import add_named_arguments, named_dataset
from halp_probe.commands.table_flags import add_table_arguments, table_options
from halp_probe.commands.task_run import report_outcome, run_task
from halp_probe.records import Sample
from halp_probe.task_files.table import read_vqa
from halp_probe.tasks.task import TaskInput

DEFAULT_MODEL = "Qwen/Qwen2.5-VL-7B-Instruct"
USUAL = UsualLimits(max_new_tokens=64)


def add_input_arguments(group: argparse._ActionsContainer) -> None:
    """Add the flags that name the table and the folder of images, or a benchmark that is known by name."""
    add_named_arguments(group)
    add_table_arguments(group, "question_id, image_id, question, answer")


def read_input(args: argparse.Namespace) -> TaskInput[Sample, str]:
    """Read the questions of a table or of a benchmark. Raises what `read_vqa` and `read_named` raise."""
    if args.dataset is not None:
        return named_dataset(args).task_input()
    return read_vqa(args.vqa_dataset, image_folder(args.images_dir, args), table_options(args))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `vqa`."""
    add_input_arguments(parser)
    add_link_argument(parser)
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"), help="where answers go (%(default)s)")
    parser.add_argument("--output-path", type=Path, help="the CSV to write (OUTPUT_DIR/vqa_MODEL.csv)")
    add_answer_arguments(parser, model=DEFAULT_MODEL, batch_size=4, usual=USUAL)


def run(args: argparse.Namespace) -> int:
    """Answer and judge, and return the exit status of `run_task`."""
    from halp_probe.labels.labelling import summary
    from halp_probe.labels.table import add_texts, row, write_labels

    options = answer_options(args)
    task_input = read_input(args)
    output = args.output_path or args.output_dir / f"vqa_{options.model.base_name}.csv"
    task_run = run_task(task_input, options, output)
    answered = task_run.answered
    items = [item for item in task_input.items if item.question_id in answered.replies]
    replies = [answered.replies[item.question_id].text for item in items]
    rows = [
        row(item.question_id, task_input.task.verdict(item, reply)) for item, reply in zip(items, replies, strict=True)
    ]
    rows = add_texts(rows, [item.question for item in items], replies, [item.answer for item in items])
    write_labels(output, rows)
    print(summary(rows, str(output)))
    return report_outcome(task_run)
