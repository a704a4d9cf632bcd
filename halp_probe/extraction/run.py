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

from halp_probe.errors import InputError
from halp_probe.extraction import batching
from halp_probe.extraction.engine import Engine
from halp_probe.extraction.failures import write_failures
from halp_probe.extraction.images import ImageError, LoadedImage, image_path, load_image, pixel_count
from halp_probe.extraction.progress import Progress
from halp_probe.extraction.prompting import Prompt, Prompter, PromptError
from halp_probe.records import Captured, Failure, Sample
from halp_probe.shards.columns import from_captured
from halp_probe.shards.run_folder import RunFolder

_IMAGES_KEPT = 2  # decoded pictures; rows of one image stand together


class RunError(InputError):
    """A run that cannot start; the message says why and what to do."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `stopped` means that it was asked to stop before the end."""

    captured: int  # by this run
    already_done: int
    failures: tuple[Failure, ...]
    stopped: bool


@dataclass(frozen=True)
class _Slot:
    """A place in a batch: a prompt to run, or one that is already stored and only keeps its place."""

    sample: Sample
    prompt: Prompt | None
    tokens: int


def ordered_samples(samples: Sequence[Sample]) -> list[Sample]:
    """The samples in the run's order."""
    return [samples[row] for row in batching.run_order([sample.image_id for sample in samples])]


def check_against_table(folder: RunFolder, samples: Sequence[Sample]) -> None:
    """Refuse a folder whose stored samples are not those of the table. Raises RunError naming the first."""
    by_id = {sample.question_id: sample for sample in samples}
    strangers = [question_id for question_id in folder.done if question_id not in by_id]
    if strangers:
        raise RunError(
            f"{folder.path} holds {len(strangers)} questions that are not in this table (first: {strangers[0]!r}); "
            "choose another --output-dir"
        )
    for question_id, stored in folder.done.items():
        sample = by_id[question_id]
        for name, before, now in (
            ("image_id", stored.image_id, sample.image_id),
            ("question", stored.question, sample.question),
            ("answer", stored.ground_truth_answer, sample.answer),
        ):
            if before != now:
                raise RunError(
                    f"{folder.path} was captured with {name} {before!r} for question {question_id!r}, "
                    f"the table now says {now!r}; choose another --output-dir"
                )


class Extraction:
    """Runs an engine over a table. `should_stop` is asked after every batch."""

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

    def run(self, samples: Sequence[Sample], other_failures: Sequence[Failure], retried: set[str]) -> Outcome:
        """Capture what is not stored yet of `samples`, which stand in the run's order.

        `other_failures` (rows of the table that are no samples, say) are kept in failures.csv; `retried` are the ids
        that failed in an earlier run. Every sample ends in the folder or among the outcome's failures.
        """
        done_before = sum(sample.question_id in self.folder.done for sample in samples)
        failures = list(other_failures)
        captured = attempted = 0
        stopped = False
        with Progress(len(samples) - done_before) as progress:
            for window in batching.windows(samples, batching.WINDOW):
                for result in self._run_window(window, retried):
                    if isinstance(result, Failure):
                        failures.append(result)
                        progress.advance(1, failed=1)
                        continue
                    captured += result
                    progress.advance(result)
                    stopped = self.should_stop()
                    if stopped:
                        break
                write_failures(self.folder.path, failures)
                if stopped:
                    return Outcome(captured, done_before, tuple(failures), stopped)
                attempted += len(window)
                self.folder.flush(attempted)
        self.folder.flush(attempted, final=True)
        return Outcome(captured, done_before, tuple(failures), stopped)

    def _run_window(self, window: Sequence[Sample], retried: set[str]) -> Iterator[Failure | int]:
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
                finite, broken = _split_finite(self.engine.run(prompts))
                if finite:
                    self.folder.append(from_captured(finite))
                yield from broken
                yield len(finite)
        yield from failures

    def _slots(self, samples: Sequence[Sample], failures: list[Failure]) -> Iterator[_Slot]:
        """Prompts are made only when their batch is filled, so memory holds one batch of pixels."""
        for sample in samples:
            stored = self.folder.done.get(sample.question_id)
            if stored is not None:
                yield _Slot(sample, None, stored.prompt_tokens)
                continue
            try:
                prompt = self.prompter.prompt(sample, self._load_image(sample.image_id))
            except ImageError as error:
                failures.append(Failure(sample.question_id, "image", str(error)))
            except PromptError as error:
                failures.append(Failure(sample.question_id, "prompt", str(error)))
            else:
                yield _Slot(sample, prompt, len(prompt))

    def _size(self, sample: Sample) -> tuple[int, str, int]:
        """Grows with the prompt's length; rows of one image stay together."""
        try:
            pixels = pixel_count(image_path(self.images_dir, sample.image_id))
        except ImageError:
            pixels = 0
        bounds = self.prompter.pixel_bounds()
        area = min(max(pixels, bounds[0]), bounds[1]) if bounds else 0
        return area, sample.image_id, len(sample.question)

    def _load_uncached(self, image_id: str) -> LoadedImage:
        return load_image(image_path(self.images_dir, image_id))


def _split_finite(rows: list[Captured]) -> tuple[list[Captured], list[Failure]]:
    """Rows whose numbers are all finite, and failures for the others."""
    finite: list[Captured] = []
    failures: list[Failure] = []
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
