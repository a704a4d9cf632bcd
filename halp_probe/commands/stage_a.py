"""`halp-probe stage-a`: write one line on each image of groups of images, for one mission of a quality check."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from halp_probe.answering.options import UsualLimits
from halp_probe.commands.answer_flags import add_answer_arguments, answer_options
from halp_probe.commands.arguments import add_shared
from halp_probe.commands.image_flags import add_link_argument, image_folder
from halp_probe.commands.task_run import report_outcome, run_task
from halp_probe.commands.terminal import progress_on_terminal
from halp_probe.engine.images import ImageError, ImageFolder, image_path, load_image
from halp_probe.errors import InputError
from halp_probe.progress import Counter
from halp_probe.records import Failure
from halp_probe.task_files.stage_a_lines import IMAGE_KEYS, append_line, write_lines
from halp_probe.task_files.stage_tree import Tree, read_tree
from halp_probe.tasks.missions import mission, nfc
from halp_probe.tasks.stage_a import STAGE_A, ImageItem, image_keys, items_of, read_description
from halp_probe.tasks.stage_groups import Group, GroupLine, ImageDescription, group_line
from halp_probe.tasks.summary import Summary
from halp_probe.tasks.task import TaskInput

if TYPE_CHECKING:
    from halp_probe.answering.replies import Reply

DEFAULT_MODEL = "Qwen/Qwen3-VL-8B-Instruct"
USUAL = UsualLimits(max_new_tokens=1024, max_pixels=1024 * 768)


def add_input_arguments(group: argparse._ActionsContainer) -> None:
    """Add the flags that name the folder of groups and the mission."""
    add = group.add_argument
    add_shared(
        group, "--data-root", type=Path, help="folder of <mission>/{审核通过|审核不通过}/<group>/*.{jpg,jpeg,png}"
    )
    add("--mission", help="the mission, whose folder is read; such as 挡风板安装检查")
    add("--no-mission", action="store_true", help="ask without the mission's focus; --mission may then name any folder")
    add("--verify-inputs", action="store_true", help="open every image before the model is loaded")


def read_input(args: argparse.Namespace) -> TaskInput[ImageItem, Summary]:
    """Read the images of all groups. Raises InputError for missing flags, and what `read_tree` raises."""
    return _input(args, _tree(args))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `stage-a`."""
    add_input_arguments(parser)
    add_link_argument(parser)
    add = parser.add_argument
    add("--output-dir", type=Path, default=Path("outputs"), help="where the lines go (%(default)s)")
    add("--output-path", type=Path, help="the JSONL to write (OUTPUT_DIR/MISSION_stage_a.jsonl)")
    add(
        "--image-keys",
        choices=IMAGE_KEYS,
        default=IMAGE_KEYS[0],
        help="name images 图片_1 … or image_1 … (%(default)s)",
    )
    add_answer_arguments(parser, model=DEFAULT_MODEL, batch_size=8, usual=USUAL)


def run(args: argparse.Namespace) -> int:
    """Summarise and write, and return the exit status of `run_task`."""
    options = answer_options(args)
    tree = _tree(args)
    task_input = _input(args, tree)
    output = args.output_path or args.output_dir / f"{nfc(args.mission)}_stage_a.jsonl"
    task_run = run_task(task_input, options, output, _PartialOutput(output, tree.groups, args.image_keys))
    answered = task_run.answered
    lines = _lines(tree.groups, answered.replies, answered.failures)
    write_lines(output, lines, args.image_keys)
    whole = sum(line.complete for line in lines)
    print(f"{len(tree.groups)} groups, {whole} complete, {len(lines) - whole} with a problem; see {output}")
    return report_outcome(task_run)


def _tree(args: argparse.Namespace) -> Tree:
    if args.data_root is None or args.mission is None:
        raise InputError("--data-root FOLDER and --mission NAME are both needed")
    if not args.no_mission:
        mission(args.mission)
    return read_tree(image_folder(args.data_root, args), args.mission)


def _input(args: argparse.Namespace, tree: Tree) -> TaskInput[ImageItem, Summary]:
    items = [item for group in tree.groups for item in items_of(group, focused=not args.no_mission)]
    root = image_folder(args.data_root, args)
    broken = _broken(root, items) if args.verify_inputs else {}
    return TaskInput(
        task=STAGE_A,
        items=[item for item in items if item.key not in broken],
        failures=[*tree.failures, *broken.values()],
        images_dir=root,
        about={"mission": nfc(args.mission), "mission_focus": not args.no_mission},
    )


def _broken(root: ImageFolder, items: Sequence[ImageItem]) -> dict[str, Failure]:
    """Return, by key, why an item's image cannot be used."""
    found = {}
    with progress_on_terminal() as progress:
        counter = Counter(progress, len(items), unit="image", note="verified")
        for item in items:
            try:
                load_image(image_path(root, item.image))
            except ImageError as error:
                found[item.key] = Failure(question_id=item.key, stage="image", reason=str(error))
            counter.advance(1, failed=item.key in found, note="verified")
    return found


def _lines(groups: Sequence[Group], replies: Mapping[str, Reply], failures: Sequence[Failure]) -> list[GroupLine]:
    """Return the lines, in order, of all groups whose every image has a reply or a failure."""
    images = {
        failure.question_id: ImageDescription(summary=None, problem=f"{failure.stage}: {failure.reason}")
        for failure in failures
    }
    images |= {key: _read_description(reply) for key, reply in replies.items()}
    lines = (group_line(group, [images.get(key) for key in image_keys(group)]) for group in groups)
    return [line for line in lines if line is not None]


def _read_description(reply: Reply) -> ImageDescription:
    return read_description(reply.text, finished=reply.finished, date=reply.date)


class _PartialOutput:
    """Output file of a run in progress: rewritten with the groups finished so far, then one line a finished group."""

    def __init__(self, path: Path, groups: Sequence[Group], image_key: str) -> None:
        self._path, self._image_key = path, image_key
        self._groups = groups
        self._group_of = {key: group for group in groups for key in image_keys(group)}
        self._settled: dict[str, ImageDescription] = {}
        self._written = 0
        self._has_file = False

    def __call__(self, new: Sequence[Reply]) -> str:
        """Write the groups that these replies finish; return the progress line's count of groups."""
        touched = []
        for reply in new:
            image = _read_description(reply)
            if reply.attempt > 1 or image.summary is not None:  # otherwise the model is asked again
                self._settled[reply.key] = image
                touched.append(self._group_of[reply.key])
        finished = (
            group_line(group, [self._settled.get(key) for key in image_keys(group)]) for group in dict.fromkeys(touched)
        )
        self._write([line for line in finished if line is not None])
        return f"{self._written} of {len(self._groups)} groups"

    def _write(self, lines: Sequence[GroupLine]) -> None:
        if not self._has_file:
            write_lines(self._path, lines, self._image_key)
        else:
            for line in lines:
                append_line(self._path, line, self._image_key)
        self._has_file = True
        self._written += len(lines)
