"""`halp-probe stage-b`: ask from Stage-A's summaries whether each group passes; compare with the groups' labels."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halp_probe.answering.options import UsualLimits
from halp_probe.commands.answer_flags import add_answer_arguments, answer_options
from halp_probe.commands.task_run import report_outcome, run_task
from halp_probe.errors import InputError
from halp_probe.json_files import write_json
from halp_probe.records import Failure
from halp_probe.task_files.stage_a_lines import read_files
from halp_probe.task_files.stage_b_files import write_verdicts
from halp_probe.tasks.stage_b import STAGE_B, Decision, GroupItem, group_key
from halp_probe.tasks.stage_b_metrics import GroupVerdict, metrics
from halp_probe.tasks.stage_groups import GroupSummaries
from halp_probe.tasks.task import TaskInput

if TYPE_CHECKING:
    from halp_probe.answering.replies import Reply

DEFAULT_MODEL = "Qwen/Qwen3-VL-8B-Instruct"
USUAL = UsualLimits(max_new_tokens=256)
_RATES = {
    "accuracy_of_valid": "accuracy of valid verdicts",
    "accuracy_invalid_as_wrong": "accuracy, invalid as wrong",
    "false_pass_rate": "通过 on groups labelled fail",
    "false_fail_rate": "不通过 on groups labelled pass",
}


def add_input_arguments(group: argparse._ActionsContainer) -> None:
    """Add the flag that names Stage-A's files."""
    group.add_argument("--stage-a", type=Path, nargs="+", metavar="FILE", help="JSONL files that stage-a wrote")


def read_input(args: argparse.Namespace) -> TaskInput[GroupItem, Decision]:
    """Read the complete groups. Raises InputError where no file is named, and what `read_files` raises."""
    return _input(_groups(args))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `stage-b`."""
    add_input_arguments(parser)
    add = parser.add_argument
    add("--output-dir", type=Path, default=Path("outputs"), help="where the verdicts go (%(default)s)")
    add("--output-path", type=Path, help="the JSONL to write (OUTPUT_DIR/MISSION_stage_b.jsonl; all_… for many files)")
    add_answer_arguments(parser, model=DEFAULT_MODEL, batch_size=8, usual=USUAL)


def run(args: argparse.Namespace) -> int:
    """Ask, write verdicts and rates, print the rates, and return the exit status of `run_task`."""
    options = answer_options(args)
    groups = _groups(args)
    task_input = _input(groups)
    output: Path = args.output_path or args.output_dir / f"{_stem(args.stage_a)}_stage_b.jsonl"
    task_run = run_task(task_input, options, output, _watch(task_input.items))
    answered = task_run.answered
    verdicts = [
        _group_verdict(item, answered.replies[item.key]) for item in task_input.items if item.key in answered.replies
    ]
    write_verdicts(output, verdicts)
    keys = {each.item.key for each in verdicts}
    found = metrics(verdicts, [group.mission for group in groups if _key(group) not in keys])
    metrics_file = output.with_name(f"{output.name.removesuffix(output.suffix)}_metrics.json")
    write_json(metrics_file, {**found, "model": options.model.base_name})
    print(_summary(found))
    print(f"see {output} and {metrics_file}")
    return report_outcome(task_run)


def _groups(args: argparse.Namespace) -> list[GroupSummaries]:
    if not args.stage_a:
        raise InputError("pass --stage-a FILE: the JSONL that stage-a wrote")
    return read_files(args.stage_a)


def _input(groups: Sequence[GroupSummaries]) -> TaskInput[GroupItem, Decision]:
    items: list[GroupItem] = [
        GroupItem(mission=group.mission, label=group.label, group_id=group.group_id, summaries=group.summaries)
        for group in groups
        if not group.lacking
    ]
    incomplete = [
        Failure(question_id=_key(group), stage="table", reason=group.lacking) for group in groups if group.lacking
    ]
    return TaskInput(task=STAGE_B, items=items, failures=incomplete, images_dir=Path())


def _key(group: GroupSummaries) -> str:
    return group_key(group.mission, group.label, group.group_id)


def _stem(files: Sequence[Path]) -> str:
    return files[0].name.removesuffix(files[0].suffix).removesuffix("_stage_a") if len(files) == 1 else "all"


def _group_verdict(item: GroupItem, reply: Reply) -> GroupVerdict:
    return GroupVerdict(item=item, decision=STAGE_B.read(item, reply.text, finished=reply.finished), reply=reply.text)


def _watch(items: Sequence[GroupItem]) -> Any:
    """Return a function that counts right, wrong and invalid verdicts for the progress line."""
    by_key = {item.key: item for item in items}
    counts = {"right": 0, "wrong": 0, "invalid": 0}

    def watch(new: Sequence[Reply]) -> str:
        for reply in new:
            verdict = _group_verdict(by_key[reply.key], reply).decision.verdict
            outcome = "invalid" if verdict is None else "right" if verdict == by_key[reply.key].label else "wrong"
            counts[outcome] += 1
        return ", ".join(f"{count} {name}" for name, count in counts.items())

    return watch


def _summary(found: Mapping[str, Any]) -> str:
    """Return the rates as lines to print."""
    lines = [f"{found['groups']} groups, {found['valid']} valid verdicts, {found['invalid']} invalid"]
    for name, title in _RATES.items():
        rate = found[name]
        shown = rate["reason"] if rate["value"] is None else f"{rate['value']:.3f} ({rate['count']} of {rate['of']})"
        lines.append(f"{title}: {shown}")
    return "\n".join(lines)
