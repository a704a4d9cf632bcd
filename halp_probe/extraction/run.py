"""Run one extraction from samples into a run folder; it can be interrupted and resumed.

The run's order is that of the table, with the rows of one image together. Shards follow this order, and so do the
windows inside which images are sorted by size. Workers prepare prompts ahead of the model, and a background
thread writes its results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

from halp_probe.engine.batched import BatchRunner
from halp_probe.engine.threads import BackgroundThread
from halp_probe.errors import InputError
from halp_probe.extraction.ledger import Ledger
from halp_probe.extraction.outcome import Extraction
from halp_probe.progress import Counter, Progress, silent
from halp_probe.records import Failure, Sample
from halp_probe.shards.columns import table_texts
from halp_probe.shards.run_folder import RunFolder


def check_against_table(folder: RunFolder, samples: Sequence[Sample]) -> None:
    """Raise InputError if stored samples differ from those of the table; it names the first."""
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


def name_all_images(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Set `images` of all samples if one of them has it, since a column needs a value for every row."""
    if all(sample.images is None for sample in samples):
        return samples
    return [replace(sample, images=sample.files) for sample in samples]


def run(
    runner: BatchRunner,
    folder: RunFolder,
    images: Sequence[list[Sample]],
    table_failures: Sequence[Failure] = (),
    failed_before: Sequence[Failure] = (),
    *,
    progress: Progress = silent,
    should_stop: Callable[[], bool] = lambda: False,
) -> Extraction:
    """Capture the samples that are not stored yet; `images` holds them by image, in the run's order.

    `table_failures` are rows of the table that cannot be samples; `failed_before` are the failures of earlier runs,
    which stay in failures.csv until their samples are captured or fail again. So every row that was attempted is in the
    folder or in failures.csv, whenever the run ends. `should_stop` is called after every batch.
    """
    total = sum(map(len, images))
    done_before = sum(sample.question_id in folder.done for image in images for sample in image)
    ledger = Ledger(runner.engine, folder, table_failures, failed_before, Counter(progress, total - done_before))
    stopped = False
    try:
        if done_before < total:
            retried = frozenset(failure.question_id for failure in failed_before)
            stopped = _capture(runner, images, retried, ledger, should_stop)
    finally:
        ledger.write_failures()
    if not stopped:
        folder.flush(total, final=True)
    return Extraction(
        folder=folder.path,
        captured=ledger.captured,
        already_done=done_before,
        failures=ledger.failures,
        stopped=stopped,
    )


def _capture(
    runner: BatchRunner,
    images: Sequence[list[Sample]],
    retried: frozenset[str],
    ledger: Ledger,
    should_stop: Callable[[], bool],
) -> bool:
    """Capture batch by batch; return whether the run was stopped before its end."""
    with BackgroundThread() as background, closing(runner.results(images, retried)) as results:
        for result in results:
            background.submit(ledger.store, result.computed, result.failures)
            if result.attempted is not None:
                background.submit(ledger.close_window, result.attempted)
            if should_stop():
                return True
    return False
