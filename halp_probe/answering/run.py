"""Run of a task: its items go through an engine to replies; resumable, interruptible, no item lost silently.

Final outputs are made from the items and the replies, so that a run that was killed and resumed gives the same ones.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from halp_probe.answering.options import AnswerOptions
from halp_probe.answering.replies import Reply, ReplyLog, fingerprint, header_of, whole_lines
from halp_probe.engine.images import ImageError, ImagesDir, content_sha256, image_path
from halp_probe.errors import InputError
from halp_probe.locking import lock_folder
from halp_probe.progress import Counter, Progress, silent
from halp_probe.records import Failure, Sample
from halp_probe.shards.failures import write_failures
from halp_probe.tasks.task import TaskInput

ATTEMPTS = (1, 2)  # 2: items for which the task asks again
REPLIES_SUFFIX, FAILURES_SUFFIX = ".replies.jsonl", ".failures.csv"

ShouldStop = Callable[[], bool]
Watch = Callable[[Sequence[Reply]], str]  # the replies of a batch -> note of the progress line on all so far


class Answerer(Protocol):
    """Engine that answers: a model in this process or a server."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings that affect the replies, as JSON values."""

    def answer(
        self,
        samples: Sequence[Sample],
        done: Mapping[str, Reply],
        attempt: int,
        should_stop: Callable[[], bool],
        failed_before: Collection[str] = (),
    ) -> Generator[list[Reply | Failure], None, None]:
        """Yield results of the samples that are not done, as they come, in any order; end early when asked to stop.

        `failed_before`: keys that had no reply in an earlier run, to tell what is new from what is not.
        """


@dataclass(frozen=True, kw_only=True)
class TaskAnswers:
    """End of a run: the last reply to each item that has one, and all failures."""

    replies: Mapping[str, Reply]
    failures: tuple[Failure, ...]
    stopped: bool
    failures_file: Path


def answer_task(
    task_input: TaskInput[Any, Any],
    options: AnswerOptions,
    output: Path,
    watch: Watch | None = None,
    *,
    progress: Progress = silent,
    stopping: AbstractContextManager[ShouldStop] | None = None,
) -> TaskAnswers:
    """Answer the items that have no reply yet; replies and failures are kept beside `output`, under its name.

    `stopping` is entered around the batches; it gives a function that is called after each to ask whether to stop.
    `watch` gets the replies that exist at the start, then those of each batch; a second reply to an item replaces the
    first. Raises InputError for an output that is a folder, for two items of one key, for existing replies of other
    settings, prompts or images, and what opening a model raises.
    """
    if output.is_dir():
        raise InputError(f"`output_path` {output} is a folder; name a file in it")
    samples = dict(_prompts(task_input))
    folder, stem = output.parent, output.name.removesuffix(output.suffix)
    with lock_folder(folder, f".{stem}.lock"):
        path = folder / f"{stem}{REPLIES_SUFFIX}"
        answerer = open_answerer(task_input, options, path)
        log = ReplyLog(path, {**task_input.settings, **answerer.settings})
        check_same_images(log, samples, task_input.images_dir)
        try:
            with stopping or nullcontext(lambda: False) as should_stop:
                stopped = _Rounds(task_input, samples, answerer, log, watch, progress, should_stop).run()
        finally:
            failures = (*task_input.failures, *_failures(log, samples))
            write_failures(folder, failures, f"{stem}{FAILURES_SUFFIX}")
        replies = {key: reply for attempt in ATTEMPTS for key, reply in log.replies(attempt).items() if key in samples}
    return TaskAnswers(
        replies=replies, failures=failures, stopped=stopped, failures_file=folder / f"{stem}{FAILURES_SUFFIX}"
    )


def check_same_images(log: ReplyLog, samples: Mapping[str, Sample], images_dir: ImagesDir) -> None:
    """Raise InputError when a reply is about another image than the file that is there now; missing files pass."""
    digest = functools.cache(lambda name: hashlib.sha256(image_path(images_dir, name).read_bytes()).hexdigest())
    for key, reply in (pair for attempt in ATTEMPTS for pair in log.replies(attempt).items()):
        sample = samples.get(key)
        if sample is None or not sample.files:
            continue
        try:
            shown = content_sha256(sample.image_id, [digest(name) for name in sample.files])
        except (ImageError, OSError):
            continue
        if shown != reply.image_sha256:
            raise InputError(
                f"{log.path} holds a reply to {key!r} about another image than {', '.join(sample.files)} is now; "
                "restore the image, or choose another `output_path`"
            )


def _failures(log: ReplyLog, samples: Mapping[str, Sample]) -> list[Failure]:
    """Return the last failure of each item; an item whose second prompt failed has a reply all the same."""
    failed = {key: failure for attempt in ATTEMPTS for key, failure in log.failures(attempt).items()}
    return [failure for key, failure in failed.items() if key in samples]


def open_answerer(task_input: TaskInput[Any, Any], options: AnswerOptions, log: Path) -> Answerer:
    """Open the model or the server that the options name; `log` may hold the replies of an earlier run."""
    if options.system_prompt is None:
        options = replace(options, system_prompt=task_input.task.system)
    if options.engine == "server":
        from halp_probe.answering.server import ServerAnswerer

        return ServerAnswerer(options, task_input.images_dir)
    from halp_probe.answering.local import LocalAnswerer
    from halp_probe.engine.batched import text_only

    lines = whole_lines(log)
    if options.prompt_date is None and lines:
        options = replace(options, prompt_date=header_of(log, lines[0]).get("prompt_date"))
    samples = [task_input.task.prompt(item) for item in task_input.items]
    return LocalAnswerer.load(options, task_input.images_dir, text_only=text_only(samples))


def _prompts(task_input: TaskInput[Any, Any]) -> Iterator[tuple[str, Sample]]:
    keys: set[str] = set()
    for item in task_input.items:
        sample = task_input.task.prompt(item)
        if sample.question_id in keys:
            raise InputError(
                f"two items have the key {sample.question_id!r}; replies are matched by it: make it unique"
            )
        keys.add(sample.question_id)
        yield sample.question_id, sample


class _Rounds:
    """Two rounds over the items: all of them once, then once more those for which the task asks again."""

    def __init__(
        self,
        task_input: TaskInput[Any, Any],
        samples: Mapping[str, Sample],
        answerer: Answerer,
        log: ReplyLog,
        watch: Watch | None,
        progress: Progress,
        should_stop: ShouldStop,
    ) -> None:
        self._task, self._items = task_input.task, dict(zip(samples, task_input.items, strict=True))
        self._samples, self._answerer, self._log = samples, answerer, log
        self._progress, self._should_stop = progress, should_stop
        self._watch = watch or (lambda _replies: "")

    def run(self) -> bool:
        """Answer; return whether it was stopped before the end."""
        return self._round(self._samples, 1) or self._round(self._again(), 2)

    def _again(self) -> dict[str, Sample]:
        if self._task.again is None:
            return {}
        replies = self._log.replies(1)
        prompts = {
            key: self._task.again(item, self._task.read(item, replies[key].text, finished=replies[key].finished))
            for key, item in self._items.items()
            if key in replies
        }
        return {key: sample for key, sample in prompts.items() if sample is not None}

    def _round(self, samples: Mapping[str, Sample], attempt: int) -> bool:
        done = {key: reply for key, reply in self._log.replies(attempt).items() if key in samples}
        for key, reply in done.items():
            if reply.asked != fingerprint(samples[key]):
                raise InputError(
                    f"{self._log.path} holds a reply to {key!r} from another prompt; choose another `output_path`"
                )
        note = self._watch(list(done.values()))
        if len(done) == len(samples):
            return False
        keys = set(done)
        progress = Counter(self._progress, len(samples) - len(done), note=note)
        answers = self._answerer.answer(
            list(samples.values()), done, attempt, self._should_stop, frozenset(self._log.failures(attempt))
        )
        with closing(answers) as results:
            for result in results:
                self._log.append(result, attempt)
                keys.update(each.key if isinstance(each, Reply) else each.question_id for each in result)
                replies = [each for each in result if isinstance(each, Reply)]
                progress.advance(len(result), failed=len(result) - len(replies), note=self._watch(replies))
        return not keys >= samples.keys()  # items that failed in an earlier run were tried again
