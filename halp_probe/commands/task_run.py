"""One task from a command: answered on the terminal, and what a user must know beside the results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halp_probe.commands.stopping import StopSignals
from halp_probe.commands.terminal import progress_on_terminal

if TYPE_CHECKING:
    from halp_probe.answering.options import AnswerOptions
    from halp_probe.answering.run import Answered, Watch
    from halp_probe.tasks.task import TaskInput


@dataclass(frozen=True)
class TaskRun:
    """What a task's run gave, and its exit status."""

    answered: Answered
    status: int  # 0; 1 when nothing was answered; 128 + signal when stopped


def run_task(given: TaskInput[Any, Any], options: AnswerOptions, output: Path, watch: Watch | None = None) -> TaskRun:
    """Answer a task as `answer_task` does, with progress on stderr, until it ends or a signal stops it."""
    from halp_probe.answering.run import answer_task

    stop = StopSignals()
    with progress_on_terminal() as progress:
        answered = answer_task(given, options, output, watch, progress=progress, stopping=stop)
    nothing_to_do = not (given.items or answered.failures)
    status = stop.exit_status if answered.stopped else 0 if answered.replies or nothing_to_do else 1
    return TaskRun(answered, status)


def tell(ran: TaskRun) -> int:
    """Print failures and how to go on; the exit status."""
    failures = ran.answered.failures
    if failures:
        first = failures[0]
        failed = f"{len(failures)} failed (first: {first.question_id!r}: {first.reason})"
        print(f"{failed}; see {ran.answered.failures_file}, mend what can be mended, and run the same command again")
    if ran.answered.stopped:
        print("Stopped as asked. Nothing that came is lost: run the same command again to go on.")
    return ran.status
