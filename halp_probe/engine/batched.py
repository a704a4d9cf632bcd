"""Run samples through the engine in batches: planned, prepared ahead, and the same from one run to the next.

Shared by extraction and answering. Samples that an earlier run stored keep their places in the batches.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import tee
from typing import Protocol

import torch

from halp_probe.engine import batching
from halp_probe.engine.engine import ComputedBatch, Engine
from halp_probe.engine.images import ImageError, ImagesDir, find_first_copies, image_path, pixel_count
from halp_probe.engine.preparing import PreparedPrompts, Preparer, prepare_all, report_preparer_death
from halp_probe.engine.prompt_errors import HOPELESS, concerns_one_prompt, describe
from halp_probe.engine.prompting import Prompt
from halp_probe.engine.threads import prefetch
from halp_probe.engine.vision import VisionError
from halp_probe.errors import InputError
from halp_probe.records import Failure, Sample


class StoredSample(Protocol):
    """Facts that the plan needs about a sample that an earlier run has stored."""

    @property
    def image_sha256(self) -> str:
        """Digest of the images' content."""

    @property
    def prefix_tokens(self) -> int:
        """Number of tokens up to the image's end."""

    @property
    def prompt_tokens(self) -> int:
        """Number of tokens of the prompt."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Result of one batch, and the samples that failed since the last one."""

    computed: list[ComputedBatch]
    failures: list[Failure]
    attempted: int | None  # at a window's end: number of samples of the run's order so far


@dataclass(frozen=True)
class _Window:
    """Samples by image in the order in which they run; those of one image stand together."""

    images: list[list[Sample]]
    attempted: int  # number of samples of the run's order up to the window's end


@dataclass(frozen=True, kw_only=True)
class _StoredSlot:
    """The place in a batch of a prompt that an earlier run has stored."""

    image_sha256: str
    prefix_tokens: int
    tokens: int

    def __len__(self) -> int:
        return self.tokens


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Prompts that run together, and the samples that failed since the last batch."""

    prompts: list[Prompt]
    failures: list[Failure]
    attempted: int | None = None


def samples_by_image(samples: Sequence[Sample], images_dir: ImagesDir) -> list[list[Sample]]:
    """Group samples by image, in the run's order. Files with the same content are one image.

    Samples that show several images are grouped if all of these are the same; those without images by `image_id`.
    Raises what `text_only` raises.
    """
    if text_only(samples):
        return batching.group_by(samples, lambda sample: sample.subject)
    first = find_first_copies(images_dir, (file for sample in samples for file in sample.files))
    return batching.group_by(samples, lambda sample: tuple(first[file] for file in sample.files))


def text_only(samples: Sequence[Sample]) -> bool:
    """Return whether the samples show no image. Raises InputError, naming one, if some do and others do not."""
    without = [sample for sample in samples if not sample.files]
    if 0 < len(without) < len(samples):
        raise InputError(
            f"{len(without)} of {len(samples)} prompts show no image (first: {without[0].question_id!r}), the others "
            "do: vectors of images would have holes; run the two kinds separately"
        )
    return bool(without)


class BatchRunner:
    """Runner of an engine over samples that are grouped by image.

    `token_budget` bounds a batch's padded tokens, `images_a_batch` its images. If a batch does not fit the device's
    memory, half of its tokens are the budget for the rest of the run; a resumed run starts with the full budget, so its
    batches may differ. `workers` processes prepare prompts; with 0 a thread does. `stored` holds the samples of earlier
    runs by question id; `contents` the digest of the images that each subject (see `Sample`) showed then.
    """

    def __init__(
        self,
        engine: Engine,
        preparer: Preparer,
        stored: Mapping[str, StoredSample],
        *,
        token_budget: int,
        workers: int,
        images_a_batch: int | None = None,
        contents: Mapping[tuple[str, ...], str] | None = None,
    ) -> None:
        self.engine, self.preparer = engine, preparer
        self.token_budget, self.workers, self.images_a_batch = token_budget, workers, images_a_batch
        self._stored = dict(stored)  # a copy: what this run stores does not change its plan
        self._content_of = dict(contents or {})
        self._works, self._misfits = bool(stored), 0  # whether the model has computed any sample; prompts it failed on

    def results(self, images: Sequence[list[Sample]], retried: frozenset[str]) -> Generator[Result, None, None]:
        """Compute the samples that are not stored, batch by batch. `retried` are those that failed in earlier runs."""
        # PyTorch raises the death of a worker in the main thread wherever that is, also while the model computes.
        with report_preparer_death(), closing(prefetch(self._batches(images, retried))) as batches:
            for batch in batches:
                computed, failures = self._compute(batch.prompts) if batch.prompts else ([], [])
                yield Result(computed=computed, failures=[*batch.failures, *failures], attempted=batch.attempted)

    def _compute(self, prompts: list[Prompt]) -> tuple[list[ComputedBatch], list[Failure]]:
        """Run a batch; if it does not fit the device's memory, run it in halves, and make all later ones smaller.

        Prompts on an image that the vision tower fails on become failures, and so do single ones that the model fails
        on; the others run without them.
        """
        try:
            batch = self.engine.compute(prompts)
            self._works = True
            return [batch], []
        except VisionError as error:
            failed = [prompt for prompt in prompts if prompt.image_sha256 == error.image_sha256]
            others = [prompt for prompt in prompts if prompt.image_sha256 != error.image_sha256]
            computed, failures = self._compute(others) if others else ([], [])
            return computed, [
                Failure(question_id=prompt.sample.question_id, stage="forward", reason=str(error)) for prompt in failed
            ] + failures
        except torch.OutOfMemoryError:
            if len(prompts) == 1:
                reason = f"out of memory with {len(prompts[0])} tokens; lower `max_pixels`"
                return [], [Failure(question_id=prompts[0].sample.question_id, stage="forward", reason=reason)]
            tokens = batching.computed_tokens(prompts, share_prefix=self.engine.share_prefix)
            self.token_budget = min(self.token_budget, tokens // 2)
        except Exception as error:  # see prompt_errors: one prompt may raise anything, and the others can be computed
            if not concerns_one_prompt(error):
                raise
            if len(prompts) == 1:
                return [], [self._misfit(prompts[0], error)]
        middle = len(prompts) // 2
        (first, failed_first), (second, failed_second) = (
            self._compute(half) for half in (prompts[:middle], prompts[middle:])
        )
        return first + second, failed_first + failed_second

    def _misfit(self, prompt: Prompt, error: Exception) -> Failure:
        """Return the failure of a prompt that the model fails on. Raises the error if it has failed on all of many."""
        self._misfits += 1
        if not self._works and self._misfits >= HOPELESS:
            raise error
        reason = f"the model fails on this prompt: {describe(error)}; resize the image, or leave the question out"
        return Failure(question_id=prompt.sample.question_id, stage="forward", reason=reason)

    def _batches(self, images: Sequence[list[Sample]], retried: frozenset[str]) -> Iterator[_Batch]:
        """Yield the run's batches. Prompts are made shortly before their batch, which bounds the memory for pixels."""
        for_workers, for_batches = tee(self._windows(images, retried))
        missing = (list(filter(self._is_missing, image)) for window in for_workers for image in window.images)
        prompts = prepare_all(self.preparer, filter(None, missing), self.workers)
        for window in for_batches:
            failures: list[Failure] = []
            slots = (slot for image in window.images for slot in self._slots(image, prompts, failures))
            for batch in batching.batches(
                slots, lambda: self.token_budget, share_prefix=self.engine.share_prefix, images=self.images_a_batch
            ):
                yield _Batch(prompts=[slot for slot in batch if isinstance(slot, Prompt)], failures=failures.copy())
                failures.clear()
            yield _Batch(prompts=[], failures=failures, attempted=window.attempted)

    def _windows(self, images: Sequence[list[Sample]], retried: frozenset[str]) -> Iterator[_Window]:
        """Yield the windows in which any sample is missing."""
        attempted = 0
        for window in batching.windows(images, batching.WINDOW):
            attempted += sum(map(len, window))
            missing = [left for image in window if (left := list(filter(self._is_missing, image)))]
            # Stored samples keep their places in the batches, unless only failures of earlier runs are left.
            only_retried = all(sample.question_id in retried for image in missing for sample in image)
            planned = missing if only_retried else window
            if missing:
                by_length = [sorted(image, key=lambda sample: len(sample.question)) for image in planned]
                yield _Window(sorted(by_length, key=self._size), attempted)

    def _slots(
        self, image: list[Sample], prompts: Iterator[PreparedPrompts], failures: list[Failure]
    ) -> Iterator[Prompt | _StoredSlot]:
        """Yield a place for each of an image's samples; `prompts` holds what the workers made of the missing."""
        results = iter(next(prompts)) if any(map(self._is_missing, image)) else iter(())
        for sample in image:
            stored = self._stored.get(sample.question_id)
            if stored is not None:
                yield _StoredSlot(
                    image_sha256=stored.image_sha256, prefix_tokens=stored.prefix_tokens, tokens=stored.prompt_tokens
                )
                continue
            result = self._check_same_images(next(results))
            if isinstance(result, Failure):
                failures.append(result)
            else:
                yield result

    def _check_same_images(self, result: Prompt | Failure) -> Prompt | Failure:
        """Return the prompt, or a failure if its images are not those that were captured under their names before."""
        if isinstance(result, Failure):
            return result
        sample = result.sample
        if self._content_of.setdefault(sample.subject, result.image_sha256) == result.image_sha256:
            return result
        reason = (
            f"{', '.join(sample.subject)} is not the file that other prompts of this run were about; put that file "
            "back, or choose another place for the output"
        )
        return Failure(question_id=sample.question_id, stage="image", reason=reason)

    def _is_missing(self, sample: Sample) -> bool:
        return sample.question_id not in self._stored

    def _size(self, image: list[Sample]) -> tuple[int, int, str]:
        """Return a sort key: the length of the image's prefix, then that of its longest question."""
        first = image[0]
        return sum(map(self._area, first.files)), max(len(sample.question) for sample in image), first.image_id

    def _area(self, file: str) -> int:
        """Return an image's area after resizing, in pixels; 0 if only the processor knows it."""
        bounds = self.preparer.prompter.pixel_bounds
        if bounds is None:
            return 0
        try:
            pixels = pixel_count(image_path(self.preparer.images_dir, file))
        except ImageError:
            pixels = 0
        return min(max(pixels, bounds[0]), bounds[1])
