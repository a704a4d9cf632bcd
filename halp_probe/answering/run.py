"""A task's items through an engine to replies: resumable, interruptible, every item answered or named.

Final outputs are made from the items and the replies, so that a killed run that goes on gives the same ones.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from halp_probe.answering.options import AnswerOptions
from halp_probe.answering.replies import Reply, ReplyLog, fingerprint, header_of, whole_lines
from halp_probe.engine.images import ImageError, content_sha256, image_path
from halp_probe.errors import InputError
from halp_probe.locking import lock_folder
from halp_probe.progress import Counter, Progress, silent
from halp_probe.records import Failure, Sample
from halp_probe.shards.failures import write_failures
from halp_probe.tasks.task import TaskInput

ATTEMPTS = (1, 2)  # the second for items whose task asks again
REPLIES_SUFFIX, FAILURES_SUFFIX = ".replies.jsonl", ".failures.csv"

ShouldStop = Callable[[], bool]
Watch = Callable[[Sequence[Reply]], str]  # the replies of a batch -> what the progress line says of all so far


class Answerer(Protocol):
    """What answers: a model in this process or a server."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that shows in the replies, as JSON values."""

    def answer(
        self, samples: Sequence[Sample], done: Mapping[str, Reply], attempt: int, should_stop: Callable[[], bool]
    ) -> Generator[list[Reply | Failure], None, None]:
        """Results of the samples that are not done, in any order, as they come; ends early when asked to stop."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """How a run ended: the last reply to each item that has one, and all that failed."""

    replies: Mapping[str, Reply]
    failures: tuple[Failure, ...]
    stopped: bool
    failures_file: Path


def answer_task(
    given: TaskInput[Any, Any],
    options: AnswerOptions,
    output: Path,
    watch: Watch | None = None,
    *,
    progress: Progress = silent,
    stopping: AbstractContextManager[ShouldStop] | None = None,
) -> Answered:
    """Answer what is not answered yet; replies and failures are kept beside `output`, whose name they have.

    `stopping` is entered around the batches, and gives what is asked after each of them. `watch` is given the replies
    that are there at the start, then those of each batch; a second one to an item takes the place of the first. Raises
    InputError for an output that is a folder, for two items of one key, for replies of other settings, of prompts that
    are others now or about other images, and what opening a model raises.
    """
    if output.is_dir():
        raise InputError(f"`output_path` {output} is a folder; name a file in it")
    samples = dict(_prompts(given))
    folder, stem = output.parent, output.name.removesuffix(output.suffix)
    with lock_folder(folder, f".{stem}.lock"):
        path = folder / f"{stem}{REPLIES_SUFFIX}"
        answerer = open_answerer(given, options, path)
        log = ReplyLog(path, {**given.settings, **answerer.settings})
        check_shown(log, samples, given.images_dir)
        try:
            with stopping or nullcontext(lambda: False) as should_stop:
                stopped = _Rounds(given, samples, answerer, log, watch, progress, should_stop).run()
        finally:
            failures = (*given.failures, *_failures(log, samples))
            write_failures(folder, failures, f"{stem}{FAILURES_SUFFIX}")
        replies = {key: reply for attempt in ATTEMPTS for key, reply in log.replies(attempt).items() if key in samples}
    return Answered(
        replies=replies, failures=failures, stopped=stopped, failures_file=folder / f"{stem}{FAILURES_SUFFIX}"
    )


def check_shown(log: ReplyLog, samples: Mapping[str, Sample], images_dir: Path) -> None:
    """Raise InputError when a reply is about another image than lies there now; one that is gone tells nothing."""
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
                f"{log.path} holds a reply to {key!r} about another image than {', '.join(sample.files)} is now; put "
                "that back, or choose another `output_path`"
            )


def _failures(log: ReplyLog, samples: Mapping[str, Sample]) -> list[Failure]:
    """The last one of each item; an item whose second prompt failed has a reply all the same."""
    failed = {key: failure for attempt in ATTEMPTS for key, failure in log.failures(attempt).items()}
    return [failure for key, failure in failed.items() if key in samples]


def open_answerer(given: TaskInput[Any, Any], options: AnswerOptions, log: Path) -> Answerer:
    """The model or the server that the options name; `log` may hold the replies of a run that goes on."""
    if options.system_prompt is None:
        options = replace(options, system_prompt=given.task.system)
    if options.engine == "server":
        from halp_probe.answering.server import ServerAnswerer

        return ServerAnswerer(options, given.images_dir)
    from halp_probe.answering.local import LocalAnswerer
    from halp_probe.engine.batched import text_only

    lines = whole_lines(log)
    if options.prompt_date is None and lines:
        options = replace(options, prompt_date=header_of(log, lines[0]).get("prompt_date"))
    samples = [given.task.prompt(item) for item in given.items]
    return LocalAnswerer.load(options, given.images_dir, text_only=text_only(samples))


def _prompts(given: TaskInput[Any, Any]) -> Iterator[tuple[str, Sample]]:
    seen: set[str] = set()
    for item in given.items:
        sample = given.task.prompt(item)
        if sample.question_id in seen:
            raise InputError(
                f"two items have the key {sample.question_id!r}; replies are matched by it: make it unique"
            )
        seen.add(sample.question_id)
        yield sample.question_id, sample


class _Rounds:
    """All items once, then those once more whose task asks again."""

    def __init__(
        self,
        given: TaskInput[Any, Any],
        samples: Mapping[str, Sample],
        answerer: Answerer,
        log: ReplyLog,
        watch: Watch | None,
        progress: Progress,
        should_stop: ShouldStop,
    ) -> None:
        self._task, self._items = given.task, dict(zip(samples, given.items, strict=True))
        self._samples, self._answerer, self._log = samples, answerer, log
        self._progress, self._should_stop = progress, should_stop
        self._watch = watch or (lambda _replies: "")

    def run(self) -> bool:
        """Whether it was stopped before the end."""
        return self._round(self._samples, 1) or self._round(self._again(), 2)

    def _again(self) -> dict[str, Sample]:
        if self._task.again is None:
            return {}
        replies = self._log.replies(1)
        asked = {
            key: self._task.again(item, self._task.read(item, replies[key].text, finished=replies[key].finished))
            for key, item in self._items.items()
            if key in replies
        }
        return {key: sample for key, sample in asked.items() if sample is not None}

    def _round(self, samples: Mapping[str, Sample], attempt: int) -> bool:
        done = {key: reply for key, reply in self._log.replies(attempt).items() if key in samples}
        for key, reply in done.items():
            if reply.asked != fingerprint(samples[key]):
                raise InputError(
                    f"{self._log.path} holds a reply to {key!r} that was asked otherwise; choose another `output_path`"
                )
        said = self._watch(list(done.values()))
        if len(done) == len(samples):
            return False
        tried = set(done)
        progress = Counter(self._progress, len(samples) - len(done), note=said)
        with closing(self._answerer.answer(list(samples.values()), done, attempt, self._should_stop)) as results:
            for result in results:
                self._log.append(result, attempt)
                tried.update(each.key if isinstance(each, Reply) else each.question_id for each in result)
                replies = [each for each in result if isinstance(each, Reply)]
                progress.advance(len(result), failed=len(result) - len(replies), note=self._watch(replies))
        return not tried >= samples.keys()  # those that failed in an earlier run too
