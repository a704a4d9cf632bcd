"""One extraction from a table and a folder of images into a run folder: planned, resumable, interruptible.

The run's order is that of the table, with the rows of one image together. Shards follow this order, and so do the
windows inside which images are sorted by size. Workers prepare prompts ahead of the model, a thread writes behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from halp_probe.engine.batched import Batched
from halp_probe.engine.progress import Progress
from halp_probe.engine.threads import Behind
from halp_probe.errors import InputError
from halp_probe.extraction.ledger import Ledger
from halp_probe.records import Failure, Sample
from halp_probe.shards.columns import table_texts
from halp_probe.shards.run_folder import RunFolder


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `stopped` means that it was asked to stop before the end."""

    captured: int  # by this run
    already_done: int
    failures: tuple[Failure, ...]  # as in failures.csv
    stopped: bool


def check_against_table(folder: RunFolder, samples: Sequence[Sample]) -> None:
    """Refuse a folder whose stored samples are not those of the table. Raises InputError naming the first."""
    by_id = {sample.question_id: sample for sample in samples}
    strangers = [question_id for question_id in folder.done if question_id not in by_id]
    if strangers:
        raise InputError(
            f"{folder.path} holds {len(strangers)} questions that are not in this table (first: {strangers[0]!r}); "
            "choose another `output_dir`"
        )
    for question_id, stored in folder.done.items():
        now = table_texts(by_id[question_id])
        for name in dict.fromkeys([*stored.texts, *now]):
            if stored.texts.get(name) != now.get(name):
                raise InputError(
                    f"{folder.path} was captured with {name} {stored.texts.get(name)!r} for question {question_id!r}, "
                    f"the table now says {now.get(name)!r} (None: no such column); choose another `output_dir`"
                )


def with_files_told(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The same samples; where one names its images, so do all, as a column has a value for every row."""
    if all(sample.images is None for sample in samples):
        return samples
    return [replace(sample, images=sample.files) for sample in samples]


class Extraction:
    """Captures into a folder what a `Batched` engine gives. `should_stop` is asked after every batch."""

    def __init__(self, batched: Batched, folder: RunFolder, *, should_stop: Callable[[], bool] = lambda: False) -> None:
        self._batched, self._folder, self._should_stop = batched, folder, should_stop

    def run(
        self, images: Sequence[list[Sample]], table_failures: Sequence[Failure], failed_before: Sequence[Failure]
    ) -> Outcome:
        """Capture what is not stored yet of the samples, which stand in the run's order, those of an image together.

        `table_failures` are rows of the table that are no samples; `failed_before` are the failures of earlier runs,
        which stay in failures.csv until their samples are captured or fail anew. So every row of the table that was
        attempted stands in the folder or in failures.csv, at any moment that the run may end.
        """
        total = sum(map(len, images))
        done_before = sum(sample.question_id in self._folder.done for image in images for sample in image)
        with Progress(total - done_before) as progress:
            ledger = Ledger(self._batched.engine, self._folder, table_failures, failed_before, progress)
            try:
                stopped = done_before < total and self._run(
                    images, frozenset(failure.question_id for failure in failed_before), ledger
                )
            finally:
                ledger.write_failures()
            if not stopped:
                self._folder.flush(total, final=True)
        return Outcome(ledger.captured, done_before, ledger.failures, stopped)

    def _run(self, images: Sequence[list[Sample]], retried: frozenset[str], ledger: Ledger) -> bool:
        """Whether it was stopped before the end."""
        with Behind() as behind, closing(self._batched.results(images, retried)) as results:
            for result in results:
                behind.submit(ledger.store, result.computed, result.failures)
                if result.attempted is not None:
                    behind.submit(ledger.close_window, result.attempted)
                if self._should_stop():
                    return True
        return False
