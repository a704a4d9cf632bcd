"""Run of one task from a command: progress on the terminal, and a report of what failed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halp_probe.commands.stopping import StopSignals
from halp_probe.commands.terminal import progress_on_terminal

if TYPE_CHECKING:
    from halp_probe.answering.options import AnswerOptions
    from halp_probe.answering.run import TaskAnswers, Watch
    from halp_probe.tasks.task import TaskInput


@dataclass(frozen=True)
class TaskRun:
    """Result of a task's run, and its exit status."""

    answered: TaskAnswers
    status: int  # 0; 1 when nothing was answered; 128 + signal when stopped


def run_task(
    task_input: TaskInput[Any, Any], options: AnswerOptions, output: Path, watch: Watch | None = None
) -> TaskRun:
    """Answer a task as `answer_task` does, with progress on stderr, until it ends or a signal stops it."""
    from halp_probe.answering.run import answer_task

    stop = StopSignals()
    with progress_on_terminal() as progress:
        answered = answer_task(task_input, options, output, watch, progress=progress, stopping=stop)
    nothing_to_do = not (task_input.items or answered.failures)
    status = stop.exit_status if answered.stopped else 0 if answered.replies or nothing_to_do else 1
    return TaskRun(answered, status)


def report_outcome(task_run: TaskRun) -> int:
    """Print failures and how to resume, and return the exit status."""
    failures = task_run.answered.failures
    if failures:
        first = failures[0]
        failed = f"{len(failures)} failed (first: {first.question_id!r}: {first.reason})"
        print(f"{failed}; see {task_run.answered.failures_file}, fix what can be fixed, and run the same command again")
    if task_run.answered.stopped:
        print("Stopped as asked. No reply is lost: run the same command again to resume.")
    return task_run.status
