"""One extraction from a table and a folder of images into a run folder: planned, resumable, interruptible.

The run's order is that of the table, with the rows of one image together. Shards follow this order, and so do the
windows inside which rows are sorted by length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from halp_probe.errors import InputError
from halp_probe.extraction import batching
from halp_probe.extraction.engine import Engine
from halp_probe.extraction.images import ImageError, LoadedImage, image_path, load_image, pixel_count
from halp_probe.extraction.progress import Progress
from halp_probe.extraction.prompting import Prompt, Prompter, PromptError
from halp_probe.records import Captured, Failure, Sample
from halp_probe.shards.columns import from_captured, table_texts
from halp_probe.shards.failures import write_failures
from halp_probe.shards.run_folder import RunFolder

_IMAGES_KEPT = 2  # decoded pictures; rows of one image stand together


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `stopped` means that it was asked to stop before the end."""

    captured: int  # by this run
    already_done: int
    failures: tuple[Failure, ...]  # as in failures.csv
    stopped: bool


@dataclass(frozen=True)
class _Slot:
    """A place in a batch: a prompt to run, or one that is already stored and only keeps its place."""

    prompt: Prompt | None
    tokens: int


def ordered_samples(samples: Sequence[Sample]) -> list[Sample]:
    """The samples in the run's order."""
    return [samples[row] for row in batching.run_order([sample.image_id for sample in samples])]


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
    """Runs an engine over a table's samples. `should_stop` is asked after every batch and every failure."""

    def __init__(
        self,
        engine: Engine,
        prompter: Prompter,
        folder: RunFolder,
        images_dir: Path,
        *,
        token_budget: int,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.engine, self.prompter, self.folder, self.images_dir = engine, prompter, folder, images_dir
        self.token_budget, self.should_stop = token_budget, should_stop
        self._load_image = lru_cache(maxsize=_IMAGES_KEPT)(self._load_uncached)
        self._captured_images = {stored.texts["image_id"]: stored.image_sha256 for stored in folder.done.values()}

    def run(
        self, samples: Sequence[Sample], table_failures: Sequence[Failure], failed_before: Sequence[Failure]
    ) -> Outcome:
        """Capture what is not stored yet of `samples`, which stand in the run's order.

        `table_failures` are rows of the table that are no samples; `failed_before` are the failures of earlier runs,
        which stay in failures.csv until their samples are captured or fail anew. So every row of the table that was
        attempted stands in the folder or in failures.csv, at any moment that the run may end.
        """
        done_before = sum(sample.question_id in self.folder.done for sample in samples)
        failed = {failure.question_id: failure for failure in failed_before}
        retried = frozenset(failed)
        captured = attempted = 0
        stopped = False
        self._write_failures(table_failures, failed)
        with Progress(len(samples) - done_before) as progress:
            for window in batching.windows(samples, batching.WINDOW):
                for result in self._run_window(window, retried):
                    if isinstance(result, Failure):
                        failed[result.question_id] = result
                        progress.advance(1, failed=1)
                    else:
                        captured += result
                        progress.advance(result)
                    stopped = self.should_stop()
                    if stopped:
                        break
                failures = self._write_failures(table_failures, failed)
                if stopped:
                    return Outcome(captured, done_before, failures, stopped)
                attempted += len(window)
                self.folder.flush(attempted)
        self.folder.flush(attempted, final=True)
        return Outcome(captured, done_before, self._write_failures(table_failures, failed), stopped)

    def _write_failures(self, table_failures: Sequence[Failure], failed: dict[str, Failure]) -> tuple[Failure, ...]:
        waiting = [failure for question_id, failure in failed.items() if question_id not in self.folder.done]
        failures = (*table_failures, *waiting)
        write_failures(self.folder.path, failures)
        return failures

    def _run_window(self, window: Sequence[Sample], retried: frozenset[str]) -> Iterator[Failure | int]:
        """Failures as they come, and after each batch the number of samples that it made durable."""
        missing = [sample for sample in window if sample.question_id not in self.folder.done]
        if not missing:
            return
        # Samples that are stored keep their places in the batches, unless only failures of an earlier run are left.
        planned = missing if all(sample.question_id in retried for sample in missing) else window
        failures: list[Failure] = []
        slots = self._slots(sorted(planned, key=self._size), failures)
        for batch in batching.batches(slots, lambda slot: slot.tokens, self.token_budget):
            yield from failures
            failures.clear()
            prompts = [slot.prompt for slot in batch if slot.prompt is not None]
            if prompts:
                finite, broken = _split_finite(*self._capture(prompts))
                if finite:
                    self.folder.append(from_captured(finite))
                yield from broken
                yield len(finite)
        yield from failures

    def _capture(self, prompts: list[Prompt]) -> tuple[list[Captured], list[Failure]]:
        """Run a batch, in halves when it does not fit the device's memory."""
        try:
            return self.engine.run(prompts), []
        except torch.OutOfMemoryError:
            if len(prompts) == 1:
                reason = f"out of memory with {len(prompts[0])} tokens; lower --max-pixels"
                return [], [Failure(prompts[0].sample.question_id, "forward", reason)]
        middle = len(prompts) // 2
        (first, failed_first), (second, failed_second) = map(self._capture, (prompts[:middle], prompts[middle:]))
        return first + second, failed_first + failed_second

    def _slots(self, samples: Sequence[Sample], failures: list[Failure]) -> Iterator[_Slot]:
        """Prompts are made only when their batch is filled, so memory holds one batch of pixels."""
        for sample in samples:
            stored = self.folder.done.get(sample.question_id)
            if stored is not None:
                yield _Slot(None, stored.prompt_tokens)
                continue
            try:
                prompt = self.prompter.prompt(sample, self._load_image(sample.image_id))
            except ImageError as error:
                failures.append(Failure(sample.question_id, "image", str(error)))
            except PromptError as error:
                failures.append(Failure(sample.question_id, "prompt", str(error)))
            else:
                yield _Slot(prompt, len(prompt))

    def _size(self, sample: Sample) -> tuple[int, str, int]:
        """Grows with the prompt's length; rows of one image stay together."""
        try:
            pixels = pixel_count(image_path(self.images_dir, sample.image_id))
        except ImageError:
            pixels = 0
        bounds = self.prompter.pixel_bounds
        area = min(max(pixels, bounds[0]), bounds[1]) if bounds else 0
        return area, sample.image_id, len(sample.question)

    def _load_uncached(self, image_id: str) -> LoadedImage:
        image = load_image(image_path(self.images_dir, image_id))
        if self._captured_images.get(image_id, image.sha256) != image.sha256:
            raise ImageError(
                f"{image_id} is not the file that was captured for other questions of this run; put that file back, or "
                "choose another --output-dir"
            )
        return image


def _split_finite(rows: list[Captured], failures: list[Failure]) -> tuple[list[Captured], list[Failure]]:
    """Rows whose numbers are all finite, and failures, with those of the other rows added."""
    finite: list[Captured] = []
    failures = list(failures)
    for row in rows:
        vectors = {
            "the vision-only mean": row.vision_only,
            "the vision-encoder mean": row.vision_encoder,
            **{f"the vision token at layer {layer}": vector for layer, vector in row.vision_token.items()},
            **{f"the query token at layer {layer}": vector for layer, vector in row.query_token.items()},
            "the first token's distribution": np.array([row.first_token_logprob, row.first_token_entropy]),
        }
        bad = [name for name, vector in vectors.items() if not np.isfinite(vector).all()]
        if bad:
            reason = f"{bad[0]} is not finite; try --dtype float32 or bfloat16"
            failures.append(Failure(row.sample.question_id, "forward", reason))
        else:
            finite.append(row)
    return finite, failures
