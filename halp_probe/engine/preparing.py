"""Turn images and questions into prompts, in worker processes that run ahead of the model.

Images are decoded and preprocessed once, with all the questions on them. Memory is bounded: each worker is at most two
images ahead.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch.utils.data import DataLoader, Dataset

from halp_probe.engine.images import ImageError, ImagesDir, LoadedImage, image_path, load_image, shrink
from halp_probe.engine.prompting import Prompt, Prompter, PromptError
from halp_probe.errors import InputError
from halp_probe.records import Failure, Sample

_PREFETCH = 2  # images a worker prepares in advance
_START = "fork" if sys.platform == "linux" else "spawn"  # a fork has torch and transformers loaded
_NICENESS = 10  # the model comes first


# Samples on the same images, each as a prompt or as a failure, in the order that they came in.
PreparedPrompts: TypeAlias = list[Prompt | Failure]


@dataclass(frozen=True)
class Preparer:
    """Callable that makes the prompts of samples on the same images."""

    prompter: Prompter
    images_dir: ImagesDir
    largest_side: int | None = None  # pixels; larger images are shrunk before the processor has them

    def __call__(self, samples: Sequence[Sample]) -> PreparedPrompts:
        """Return a prompt or a failure for each sample."""
        results: PreparedPrompts = []
        images: list[LoadedImage] = []
        files: tuple[str, ...] = ()
        for sample in samples:
            try:
                if sample.files != files:
                    images, files = self._images(sample.files, images), sample.files
                results.append(self.prompter.prompt(sample, *images))
            except ImageError as error:
                results.append(Failure(question_id=sample.question_id, stage="image", reason=str(error)))
            except PromptError as error:
                results.append(Failure(question_id=sample.question_id, stage="prompt", reason=str(error)))
        return results

    def _images(self, files: Sequence[str], last: Sequence[LoadedImage]) -> list[LoadedImage]:
        """Load the images, reusing the last ones with the same content, so that it is not preprocessed again."""
        by_digest = {image.sha256: image for image in last}
        images = [load_image(image_path(self.images_dir, file)) for file in files]
        if self.largest_side is not None:
            images = [shrink(image, self.largest_side) for image in images]
        return [by_digest.get(image.sha256, image) for image in images]


def default_workers(on_cuda: bool) -> int:
    """Return how many workers keep a model busy; 0 on the CPU, where it needs the cores and a thread is enough."""
    return min(8, max(1, (os.cpu_count() or 1) - 1)) if on_cuda else 0


def prepare_all(preparer: Preparer, work: Iterable[Sequence[Sample]], workers: int) -> Iterator[PreparedPrompts]:
    """Yield the preparer's result for each piece of work, in order; with 0 workers in this process.

    Raises what the preparer raises, and InputError if a worker dies.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores: the caller's choice
        loader = DataLoader(
            _Work(preparer),
            batch_size=None,
            sampler=work,
            num_workers=workers,
            prefetch_factor=_PREFETCH if workers else None,
            multiprocessing_context=_START if workers else None,
            worker_init_fn=begin_worker,
        )
        return _results(iter(loader), copy=workers > 0)


class _Work(Dataset[PreparedPrompts | InputError]):
    def __init__(self, preparer: Preparer) -> None:
        self._preparer = preparer

    def __getitem__(self, samples: Sequence[Sample]) -> PreparedPrompts | InputError:
        try:
            return self._preparer(samples)
        except InputError as error:  # returned: a raised one would arrive with its traceback in the message
            return error


def begin_worker(_worker: int) -> None:
    """Set up a new worker: it ignores signals, which the main process handles, and ends with that process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in all its threads
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.nice(_NICENESS)


def _end_with(parent: int) -> None:
    """Exit when the parent is gone, even if it was killed: a worker waiting to send keeps its own pipe open.

    Exit also at the parent's SIGTERM, sent while it exits; a SIGTERM to the whole group is not meant for workers.
    """
    wait = getattr(signal, "sigtimedwait", None)  # not on macOS
    while os.getppid() == parent:
        if wait is None:
            time.sleep(1)
        elif (received := wait({signal.SIGTERM}, 1)) is not None and received.si_pid == parent:
            break
    os._exit(1)


def _results(results: Iterator[PreparedPrompts | InputError], *, copy: bool) -> Iterator[PreparedPrompts]:
    with report_preparer_death():
        for result in results:
            if isinstance(result, InputError):
                raise result
            yield _copy_tensors(result) if copy else result


def report_preparer_death() -> AbstractContextManager[None]:
    """Turn the death of a process that prepares images into an InputError inside the context."""
    return report_worker_death("prepares images", "with fewer `workers` or a lower `max_pixels`")


@contextmanager
def report_worker_death(duty: str, remedy: str) -> Iterator[None]:
    """Turn the death of a DataLoader's worker into an InputError inside the context."""
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:  # the last two: it died while sending
        if isinstance(error, RuntimeError) and "DataLoader worker (pid" not in str(error):
            raise
        raise InputError(
            f"a process that {duty} died, perhaps for lack of memory; run the same command again to resume, {remedy}"
        ) from error


def _copy_tensors(result: PreparedPrompts) -> PreparedPrompts:
    """Copy tensors into memory of this process: those from a worker hold a file descriptor each."""
    copies: dict[int, dict[str, torch.Tensor]] = {}
    results: PreparedPrompts = []
    for prompt in result:
        if isinstance(prompt, Prompt):
            if id(prompt.images) not in copies:
                copies[id(prompt.images)] = {name: tensor.clone() for name, tensor in prompt.images.items()}
            prompt = replace(prompt, images=copies[id(prompt.images)])
        results.append(prompt)
    return results
