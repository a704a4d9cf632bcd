"""`halp-probe dense-caption`: list every object of one or more images with its place and description."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halp_probe.answering.options import UsualLimits
from halp_probe.commands.answer_flags import add_answer_arguments, answer_options
from halp_probe.commands.arguments import share_or_one
from halp_probe.commands.image_flags import add_link_argument, image_folder
from halp_probe.commands.task_run import report_outcome, run_task
from halp_probe.errors import InputError
from halp_probe.json_files import write_json
from halp_probe.task_files.dense_records import read_folder, read_records
from halp_probe.tasks.dense_caption import DENSE_CAPTION, DenseItem, parse, true_objects
from halp_probe.tasks.dense_metrics import metrics
from halp_probe.tasks.grouped_json import Reading
from halp_probe.tasks.matching import match
from halp_probe.tasks.task import TaskInput

if TYPE_CHECKING:
    from halp_probe.answering.replies import Reply
    from halp_probe.answering.run import Watch
    from halp_probe.task_files.dense_output import CaptionedRecord

DEFAULT_MODEL = "Qwen/Qwen3-VL-8B-Instruct"
USUAL = UsualLimits(max_new_tokens=2048)


def add_input_arguments(group: argparse._ActionsContainer) -> None:
    """Add the flags that name the records or images."""
    add = group.add_argument
    add("--records", type=Path, help="JSONL or JSON list of records: images, and objects where they are known")
    add("--records-images", type=Path, help="folder of the images (the records' own); alone: each image in it")
    add("--iou", type=share_or_one, default=0.5, help="overlap from which an object counts as a true one (%(default)s)")
    add("--dense-prompt", type=Path, metavar="FILE", help="text file: the user's message (a Chinese one)")


def read_input(args: argparse.Namespace) -> TaskInput[DenseItem, Reading]:
    """Read the records, or the images of a folder.

    Raises InputError where neither is named, and for files that cannot be used.
    """
    if args.records is None and args.records_images is None:
        raise InputError("pass --records FILE, or --records-images FOLDER to describe each image in a folder")
    prompt = None if args.dense_prompt is None else _text(args.dense_prompt)
    if prompt == "":
        raise InputError(f"--dense-prompt {args.dense_prompt} is empty")
    folder = image_folder(args.records_images or args.records.parent, args)
    if args.records is None:
        found = read_folder(folder, prompt, args.iou)
    else:
        found = read_records(args.records, folder, prompt, args.iou)
    return TaskInput(task=DENSE_CAPTION, items=found.items, failures=found.failures, images_dir=found.images_dir)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `dense-caption`."""
    add_input_arguments(parser)
    add_link_argument(parser)
    add = parser.add_argument
    add("--draw", type=Path, metavar="DIR", help="draw the described and the true objects on copies of the images")
    add("--output-dir", type=Path, default=Path("outputs"), help="where results go (%(default)s)")
    add("--output-path", type=Path, help="the JSONL to write (OUTPUT_DIR/RECORDS_dense_caption.jsonl)")
    add_answer_arguments(parser, model=DEFAULT_MODEL, batch_size=4, usual=USUAL)


def run(args: argparse.Namespace) -> int:
    """Describe, write objects and metrics, draw; and return the exit status of `run_task`."""
    from halp_probe.task_files.dense_output import CaptionedRecord, draw_captions, write_captions

    options = answer_options(args)
    task_input = read_input(args)
    output: Path = args.output_path or args.output_dir / f"{_stem(args)}_dense_caption.jsonl"
    task_run = run_task(task_input, options, output, _watch(task_input.items))
    answered = task_run.answered
    answered_items = [(item, answered.replies[item.key]) for item in task_input.items if item.key in answered.replies]
    captioned = [
        CaptionedRecord(
            item=item, reading=parse(item, reply.text), reply=reply.text, finished=reply.finished, date=reply.date
        )
        for item, reply in answered_items
    ]
    write_captions(output, captioned)
    found = metrics(task_input.items, {each.item.key: each.reading for each in captioned}, args.iou)
    metrics_file = output.with_name(f"{output.name.removesuffix(output.suffix)}_metrics.json")
    unfinished = sum(not each.finished for each in captioned)
    about = {"failed": len(answered.failures), "unfinished": unfinished, "model": options.model.base_name}
    write_json(metrics_file, {**found, **about})
    print(_summary(found))
    _warn_of_other_units(captioned)
    print(f"see {output} and {metrics_file}")
    if args.draw is not None:
        print(f"{draw_captions(args.draw, task_input.images_dir, task_input.items, captioned)} pictures in {args.draw}")
    return report_outcome(task_run)


def _warn_of_other_units(captioned: Sequence[CaptionedRecord]) -> None:
    doubtful = [(each.item.key, doubt) for each in captioned if (doubt := each.reading.other_units) is not None]
    if doubtful:
        key, first = doubtful[0]
        print(
            f"warning: {len(doubtful)} replies give places that are not in thousandths (first: {key!r}, {first.place} "
            f"{first.reason}); they have no label and are not in these numbers"
        )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}") from error


def _stem(args: argparse.Namespace) -> str:
    if args.records is not None:
        return str(args.records.name.removesuffix(args.records.suffix))
    return str(args.records_images.resolve().name)


def _watch(items: Sequence[DenseItem]) -> Watch:
    """Return a function that counts objects and problems, and correct objects, for the progress line."""
    by_key = {item.key: item for item in items}
    counts = {"objects": 0, "problems": 0, "found": 0, "known": 0}

    def watch(new: Sequence[Reply]) -> str:
        for reply in new:
            item = by_key[reply.key]
            reading = parse(item, reply.text)
            counts["objects"] += len(reading.objects)
            counts["problems"] += len(reading.problems)
            if item.truth and reading.other_units is None:
                counts["known"] += len(reading.objects)
                counts["found"] += len(match(reading.objects, true_objects(item), item.iou))
        precision = f", precision {counts['found'] / counts['known']:.3f}" if counts["known"] else ""
        return f"{counts['objects']} objects, {counts['problems']} problems{precision}"

    return watch


def _summary(found: Mapping[str, Any]) -> str:
    """Return the metrics as lines to print."""
    whole = f"{found['without_problem']} without a problem, {found['cut_off']} with JSON that was cut off"
    lines = [f"{found['replies']} replies, {whole}"]
    if found["with_ground_truth"]:
        shares = ", ".join(f"{name} {_format_share(found[name])}" for name in ("precision", "recall", "f1"))
        lines.append(
            f"at IoU {found['iou']:g}: {shares} ({found['matched']} of {found['described']} objects are there)"
        )
        lines.append(f"of these, {_format_share(found['same_description'])} are described with the same words")
    return "\n".join(lines)


def _format_share(share: float | None) -> str:
    return "undefined" if share is None else f"{share:.3f}"
