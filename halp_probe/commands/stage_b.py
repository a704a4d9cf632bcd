"""`halp-probe stage-b`: does each group pass? Asked with Stage-A's summaries, measured against the groups' labels."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halp_probe.answering.options import Usual
from halp_probe.commands.answer_flags import add_answer_arguments, answer_options
from halp_probe.commands.task_run import run_task, tell
from halp_probe.errors import InputError
from halp_probe.json_files import write_json
from halp_probe.records import Failure
from halp_probe.task_files.stage_a_lines import read_files
from halp_probe.task_files.stage_b_files import write_verdicts
from halp_probe.tasks.stage_b import STAGE_B, Decision, GroupItem, group_key
from halp_probe.tasks.stage_b_metrics import Judged, metrics
from halp_probe.tasks.stage_groups import Summarised
from halp_probe.tasks.task import TaskInput

if TYPE_CHECKING:
    from halp_probe.answering.replies import Reply

DEFAULT_MODEL = "Qwen/Qwen3-VL-8B-Instruct"
USUAL = Usual(max_new_tokens=256)
_RATES = {
    "accuracy_of_valid": "accuracy of valid verdicts",
    "accuracy_invalid_as_wrong": "accuracy, invalid as wrong",
    "false_pass_rate": "通过 on groups labelled fail",
    "false_fail_rate": "不通过 on groups labelled pass",
}


def add_input_arguments(group: argparse._ActionsContainer) -> None:
    group.add_argument("--stage-a", type=Path, nargs="+", metavar="FILE", help="JSONL files that stage-a wrote")


def read_input(args: argparse.Namespace) -> TaskInput[GroupItem, Decision]:
    """The complete groups. Raises InputError where no file is named, and what `read_files` raises."""
    return _input(_groups(args))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_input_arguments(parser)
    add = parser.add_argument
    add("--output-dir", type=Path, default=Path("outputs"), help="where the verdicts go (%(default)s)")
    add("--output-path", type=Path, help="the JSONL to write (OUTPUT_DIR/MISSION_stage_b.jsonl; all_… for many files)")
    add_answer_arguments(parser, model=DEFAULT_MODEL, batch_size=8, usual=USUAL)


def run(args: argparse.Namespace) -> int:
    """Ask, write verdicts and rates, print these; the exit status is that of `run_task`."""
    options = answer_options(args)
    groups = _groups(args)
    given = _input(groups)
    output: Path = args.output_path or args.output_dir / f"{_stem(args.stage_a)}_stage_b.jsonl"
    ran = run_task(given, options, output, _watch(given.items))
    answered = ran.answered
    judged = [_judged(item, answered.replies[item.key]) for item in given.items if item.key in answered.replies]
    write_verdicts(output, judged)
    keys = {each.item.key for each in judged}
    found = metrics(judged, [group.mission for group in groups if _key(group) not in keys])
    metrics_file = output.with_name(f"{output.name.removesuffix(output.suffix)}_metrics.json")
    write_json(metrics_file, {**found, "model": options.model.base_name})
    print(_told(found))
    print(f"see {output} and {metrics_file}")
    return tell(ran)


def _groups(args: argparse.Namespace) -> list[Summarised]:
    if not args.stage_a:
        raise InputError("--stage-a FILE is needed: the JSONL that stage-a wrote")
    return read_files(args.stage_a)


def _input(groups: Sequence[Summarised]) -> TaskInput[GroupItem, Decision]:
    items: list[GroupItem] = [
        GroupItem(mission=group.mission, label=group.label, group_id=group.group_id, summaries=group.summaries)
        for group in groups
        if not group.lacking
    ]
    incomplete = [
        Failure(question_id=_key(group), stage="table", reason=group.lacking) for group in groups if group.lacking
    ]
    return TaskInput(task=STAGE_B, items=items, failures=incomplete, images_dir=Path())


def _key(group: Summarised) -> str:
    return group_key(group.mission, group.label, group.group_id)


def _stem(files: Sequence[Path]) -> str:
    return files[0].name.removesuffix(files[0].suffix).removesuffix("_stage_a") if len(files) == 1 else "all"


def _judged(item: GroupItem, reply: Reply) -> Judged:
    return Judged(item=item, decision=STAGE_B.read(item, reply.text, finished=reply.finished), reply=reply.text)


def _watch(items: Sequence[GroupItem]) -> Any:
    """Counts right, wrong and invalid verdicts for the progress line."""
    by_key = {item.key: item for item in items}
    counts = {"right": 0, "wrong": 0, "invalid": 0}

    def watch(new: Sequence[Reply]) -> str:
        for reply in new:
            verdict = _judged(by_key[reply.key], reply).decision.verdict
            told = "invalid" if verdict is None else "right" if verdict == by_key[reply.key].label else "wrong"
            counts[told] += 1
        return ", ".join(f"{count} {name}" for name, count in counts.items())

    return watch


def _told(found: Mapping[str, Any]) -> str:
    """The rates as lines to print."""
    lines = [f"{found['groups']} groups, {found['valid']} valid verdicts, {found['invalid']} invalid"]
    for name, title in _RATES.items():
        rate = found[name]
        shown = rate["reason"] if rate["value"] is None else f"{rate['value']:.3f} ({rate['count']} of {rate['of']})"
        lines.append(f"{title}: {shown}")
    return "\n".join(lines)
