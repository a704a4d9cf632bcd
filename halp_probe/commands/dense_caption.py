"""`halp-probe dense-caption`: every object of one or more images with its place and description."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halp_probe.answering.options import Usual
from halp_probe.commands.answer_flags import add_answer_arguments, answer_options
from halp_probe.commands.arguments import share_or_one
from halp_probe.commands.task_run import run_task, tell
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

DEFAULT_MODEL = "Qwen/Qwen3-VL-8B-Instruct"
USUAL = Usual(max_new_tokens=2048)


def add_input_arguments(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add("--records", type=Path, help="JSONL or JSON list of records: images, and objects where they are known")
    add("--records-images", type=Path, help="folder of the images (the records' own); alone: each image in it")
    add("--iou", type=share_or_one, default=0.5, help="overlap from which an object is a true one (%(default)s)")
    add("--dense-prompt", type=Path, metavar="FILE", help="text file: the user's message (a Chinese one)")


def read_input(args: argparse.Namespace) -> TaskInput[DenseItem, Reading]:
    """The records, or the images of a folder. Raises InputError where neither is named, and for unusable files."""
    if args.records is None and args.records_images is None:
        raise InputError("--records FILE is needed, or --records-images FOLDER for each image in a folder")
    prompt = None if args.dense_prompt is None else _text(args.dense_prompt)
    if prompt == "":
        raise InputError(f"--dense-prompt {args.dense_prompt} is empty")
    if args.records is None:
        found = read_folder(args.records_images, prompt, args.iou)
    else:
        found = read_records(args.records, args.records_images, prompt, args.iou)
    return TaskInput(task=DENSE_CAPTION, items=found.items, failures=found.failures, images_dir=found.images_dir)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_input_arguments(parser)
    add = parser.add_argument
    add("--draw", type=Path, metavar="DIR", help="paint what was described, and what is there, on copies of the images")
    add("--output-dir", type=Path, default=Path("outputs"), help="where results go (%(default)s)")
    add("--output-path", type=Path, help="the JSONL to write (OUTPUT_DIR/RECORDS_dense_caption.jsonl)")
    add_answer_arguments(parser, model=DEFAULT_MODEL, batch_size=4, usual=USUAL)


def run(args: argparse.Namespace) -> int:
    """Describe, write objects and metrics, draw; the exit status is that of `run_task`."""
    from halp_probe.task_files.dense_output import Captioned, draw_captions, write_captions

    options = answer_options(args)
    given = read_input(args)
    output: Path = args.output_path or args.output_dir / f"{_stem(args)}_dense_caption.jsonl"
    ran = run_task(given, options, output, _watch(given.items))
    answered = ran.answered
    replied = [(item, answered.replies[item.key]) for item in given.items if item.key in answered.replies]
    captioned = [
        Captioned(
            item=item, reading=parse(item, reply.text), reply=reply.text, finished=reply.finished, date=reply.date
        )
        for item, reply in replied
    ]
    write_captions(output, captioned)
    found = metrics(given.items, {each.item.key: each.reading for each in captioned}, args.iou)
    metrics_file = output.with_name(f"{output.name.removesuffix(output.suffix)}_metrics.json")
    unfinished = sum(not each.finished for each in captioned)
    about = {"failed": len(answered.failures), "unfinished": unfinished, "model": options.model.base_name}
    write_json(metrics_file, {**found, **about})
    print(_told(found))
    print(f"see {output} and {metrics_file}")
    if args.draw is not None:
        print(f"{draw_captions(args.draw, given.images_dir, given.items, captioned)} pictures in {args.draw}")
    return tell(ran)


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
    """Counts objects and problems, and how many objects are there, for the progress line."""
    by_key = {item.key: item for item in items}
    counts = {"objects": 0, "problems": 0, "found": 0, "known": 0}

    def watch(new: Sequence[Reply]) -> str:
        for reply in new:
            item = by_key[reply.key]
            reading = parse(item, reply.text)
            counts["objects"] += len(reading.objects)
            counts["problems"] += len(reading.problems)
            if item.truth:
                counts["known"] += len(reading.objects)
                counts["found"] += len(match(reading.objects, true_objects(item), item.iou))
        precision = f", precision {counts['found'] / counts['known']:.3f}" if counts["known"] else ""
        return f"{counts['objects']} objects, {counts['problems']} problems{precision}"

    return watch


def _told(found: Mapping[str, Any]) -> str:
    """The metrics as lines to print."""
    whole = f"{found['without_problem']} without a problem, {found['cut_off']} with JSON that was cut off"
    lines = [f"{found['replies']} replies, {whole}"]
    if found["with_ground_truth"]:
        shares = ", ".join(f"{name} {_shown(found[name])}" for name in ("precision", "recall", "f1"))
        lines.append(
            f"at IoU {found['iou']:g}: {shares} ({found['matched']} of {found['described']} objects are there)"
        )
        lines.append(f"of these, {_shown(found['same_description'])} are described with the same words")
    return "\n".join(lines)


def _shown(share: float | None) -> str:
    return "undefined" if share is None else f"{share:.3f}"
