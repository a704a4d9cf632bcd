"""One extraction from a table and a folder of images into a run folder: planned, resumable, interruptible.

The run's order is that of the table, with the rows of one image together. Shards follow this order, and so do the
windows inside which images are sorted by size. Workers prepare prompts ahead of the model, a thread writes behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import tee
from pathlib import Path

import torch

from halp_probe.errors import InputError
from halp_probe.extraction import batching
from halp_probe.extraction.engine import Computed, Engine
from halp_probe.extraction.images import ImageError, by_content, image_path, pixel_count
from halp_probe.extraction.ledger import Ledger
from halp_probe.extraction.preparing import Prepared, Preparer, prepared
from halp_probe.extraction.progress import Progress
from halp_probe.extraction.prompting import Prompt
from halp_probe.extraction.threads import Behind, ahead
from halp_probe.extraction.vision import VisionError
from halp_probe.records import Failure, Sample
from halp_probe.shards.columns import image_files, table_texts
from halp_probe.shards.run_folder import RunFolder


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `stopped` means that it was asked to stop before the end."""

    captured: int  # by this run
    already_done: int
    failures: tuple[Failure, ...]  # as in failures.csv
    stopped: bool


@dataclass(frozen=True)
class _Window:
    """Samples by image in the order that they run; those of one image stand together."""

    images: list[list[Sample]]
    attempted: int  # samples of the run's order up to the window's end


@dataclass(frozen=True)
class _StoredSlot:
    """The place in a batch of a prompt that an earlier run has captured."""

    image_sha256: str
    prefix_tokens: int
    tokens: int

    def __len__(self) -> int:
        return self.tokens


@dataclass(frozen=True)
class _Batch:
    """Prompts that run together, and the samples that failed since the last batch."""

    prompts: list[Prompt]
    failures: list[Failure]
    attempted: int | None = None  # at a window's end: samples of the run's order so far


def samples_by_image(samples: Sequence[Sample], images_dir: Path) -> list[list[Sample]]:
    """The samples of each image, in the run's order. Files of one content are one image.

    Samples that show several images stand together where these are the same; those that show none, by `image_id`.
    """
    first = by_content(images_dir, (file for sample in samples for file in sample.files))

    def shown(sample: Sample) -> tuple[str, ...]:
        return tuple(first[file] for file in sample.files) or (sample.image_id,)

    return batching.grouped(samples, shown)


def text_only(samples: Sequence[Sample]) -> bool:
    """Whether the samples show no images. Raises InputError, naming one, where some do and others do not."""
    without = [sample for sample in samples if not sample.files]
    if 0 < len(without) < len(samples):
        raise InputError(
            f"{len(without)} of {len(samples)} prompts show no image (first: {without[0].question_id!r}), so vectors "
            "of images would have holes; run those with images and those without by themselves"
        )
    return bool(without)


def check_against_table(folder: RunFolder, samples: Sequence[Sample]) -> None:
    """Refuse a folder whose stored samples are not those of the table. Raises InputError naming the first."""
    by_id = {sample.question_id: sample for sample in samples}
    strangers = [question_id for question_id in folder.done if question_id not in by_id]
    if strangers:
        raise InputError(
            f"{folder.path} holds {len(strangers)} questions that are not in this table (first: {strangers[0]!r}); "
            "choose another --output-dir"
        )
    for question_id, stored in folder.done.items():
        now = table_texts(by_id[question_id])
        for name in dict.fromkeys([*stored.texts, *now]):
            if stored.texts.get(name) != now.get(name):
                raise InputError(
                    f"{folder.path} was captured with {name} {stored.texts.get(name)!r} for question {question_id!r}, "
                    f"the table now says {now.get(name)!r} (None: no such column); choose another --output-dir"
                )


class Extraction:
    """Runs an engine over a table's samples. `should_stop` is asked after every batch.

    `token_budget` bounds a batch's padded tokens. Where a batch does not fit the device's memory, half of its tokens
    are the budget for the rest of the run; a run that resumes it starts with the full one, so its batches may differ.
    `workers` processes prepare prompts; with 0 a thread does.
    """

    def __init__(
        self,
        engine: Engine,
        preparer: Preparer,
        folder: RunFolder,
        *,
        token_budget: int,
        workers: int,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.engine, self.preparer, self.folder = engine, preparer, folder
        self.token_budget, self.workers, self.should_stop = token_budget, workers, should_stop
        self._stored = dict(folder.done)  # by earlier runs; this run's own writing does not change its plan
        self._captured_images = {
            image_files(stored.texts) or (stored.texts["image_id"],): stored.image_sha256
            for stored in self._stored.values()
        }

    def run(
        self, images: Sequence[list[Sample]], table_failures: Sequence[Failure], failed_before: Sequence[Failure]
    ) -> Outcome:
        """Capture what is not stored yet of the samples, which stand in the run's order, those of an image together.

        `table_failures` are rows of the table that are no samples; `failed_before` are the failures of earlier runs,
        which stay in failures.csv until their samples are captured or fail anew. So every row of the table that was
        attempted stands in the folder or in failures.csv, at any moment that the run may end.
        """
        total = sum(map(len, images))
        done_before = sum(sample.question_id in self._stored for image in images for sample in image)
        with Progress(total - done_before) as progress:
            ledger = Ledger(self.engine, self.folder, table_failures, failed_before, progress)
            try:
                stopped = done_before < total and self._run(
                    images, frozenset(failure.question_id for failure in failed_before), ledger
                )
            finally:
                ledger.write_failures()
            if not stopped:
                self.folder.flush(total, final=True)
        return Outcome(ledger.captured, done_before, ledger.failures, stopped)

    def _run(self, images: Sequence[list[Sample]], retried: frozenset[str], ledger: Ledger) -> bool:
        """Whether it was stopped before the end."""
        with Behind() as behind, closing(ahead(self._batches(images, retried))) as batches:
            for batch in batches:
                computed, failures = self._compute(batch.prompts) if batch.prompts else ([], [])
                behind.submit(ledger.store, computed, [*batch.failures, *failures])
                if batch.attempted is not None:
                    behind.submit(ledger.close_window, batch.attempted)
                if self.should_stop():
                    return True
        return False

    def _compute(self, prompts: list[Prompt]) -> tuple[list[Computed], list[Failure]]:
        """Run a batch; in halves, and then all later ones smaller, when it does not fit the device's memory.

        The prompts on an image that the vision tower fails on are failures, the others run without them.
        """
        try:
            return [self.engine.compute(prompts)], []
        except VisionError as error:
            failed = [prompt for prompt in prompts if prompt.image_sha256 == error.image_sha256]
            others = [prompt for prompt in prompts if prompt.image_sha256 != error.image_sha256]
            computed, failures = self._compute(others) if others else ([], [])
            return computed, [Failure(prompt.sample.question_id, "forward", str(error)) for prompt in failed] + failures
        except torch.OutOfMemoryError:
            if len(prompts) == 1:
                reason = f"out of memory with {len(prompts[0])} tokens; lower --max-pixels"
                return [], [Failure(prompts[0].sample.question_id, "forward", reason)]
        tokens = batching.computed_tokens(prompts, share_prefix=self.engine.share_prefix)
        self.token_budget = min(self.token_budget, tokens // 2)
        middle = len(prompts) // 2
        (first, failed_first), (second, failed_second) = (
            self._compute(half) for half in (prompts[:middle], prompts[middle:])
        )
        return first + second, failed_first + failed_second

    def _batches(self, images: Sequence[list[Sample]], retried: frozenset[str]) -> Iterator[_Batch]:
        """The run's batches. Prompts are made when their batch is near, so memory holds a few batches of pixels."""
        for_workers, for_batches = tee(self._windows(images, retried))
        missing = (list(filter(self._is_missing, image)) for window in for_workers for image in window.images)
        made = prepared(self.preparer, filter(None, missing), self.workers)
        for window in for_batches:
            failures: list[Failure] = []
            slots = (slot for image in window.images for slot in self._slots(image, made, failures))
            for batch in batching.batches(slots, lambda: self.token_budget, share_prefix=self.engine.share_prefix):
                yield _Batch([slot for slot in batch if isinstance(slot, Prompt)], failures.copy())
                failures.clear()
            yield _Batch([], failures, window.attempted)

    def _windows(self, images: Sequence[list[Sample]], retried: frozenset[str]) -> Iterator[_Window]:
        """Windows in which anything is missing."""
        attempted = 0
        for window in batching.windows(images, batching.WINDOW):
            attempted += sum(map(len, window))
            missing = [left for image in window if (left := list(filter(self._is_missing, image)))]
            # Samples that are stored keep their places in the batches, unless only failures of earlier runs are left.
            only_retried = all(sample.question_id in retried for image in missing for sample in image)
            planned = missing if only_retried else window
            if missing:
                by_length = [sorted(image, key=lambda sample: len(sample.question)) for image in planned]
                yield _Window(sorted(by_length, key=self._size), attempted)

    def _slots(
        self, image: list[Sample], made: Iterator[Prepared], failures: list[Failure]
    ) -> Iterator[Prompt | _StoredSlot]:
        """The places of an image's samples, from what the workers made of those that are missing."""
        results = iter(next(made)) if any(map(self._is_missing, image)) else iter(())
        for sample in image:
            stored = self._stored.get(sample.question_id)
            if stored is not None:
                yield _StoredSlot(stored.image_sha256, stored.prefix_tokens, stored.prompt_tokens)
                continue
            result = self._same_image(next(results))
            if isinstance(result, Failure):
                failures.append(result)
            else:
                yield result

    def _same_image(self, result: Prompt | Failure) -> Prompt | Failure:
        """A failure when the prompt's image is not the one that was captured under its name before."""
        if isinstance(result, Failure):
            return result
        sample = result.sample
        shown = sample.files or (sample.image_id,)
        if self._captured_images.setdefault(shown, result.image_sha256) == result.image_sha256:
            return result
        reason = (
            f"{', '.join(shown)} is not the file that was captured for other questions of this run; put that file "
            "back, or choose another --output-dir"
        )
        return Failure(sample.question_id, "image", reason)

    def _is_missing(self, sample: Sample) -> bool:
        return sample.question_id not in self._stored

    def _size(self, image: list[Sample]) -> tuple[int, int, str]:
        """Grows with the length of the image's prefix, then with that of its longest question."""
        area = sum(map(self._area, image[0].files))
        return area, max(len(sample.question) for sample in image), image[0].image_id

    def _area(self, file: str) -> int:
        """Of an image after resizing, in pixels, as far as it can be told without decoding it."""
        bounds = self.preparer.prompter.pixel_bounds
        if bounds is None:
            return 0
        try:
            pixels = pixel_count(image_path(self.preparer.images_dir, file))
        except ImageError:
            pixels = 0
        return min(max(pixels, bounds[0]), bounds[1])
