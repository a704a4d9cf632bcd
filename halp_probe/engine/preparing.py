"""Images and questions to prompts, in worker processes that run ahead of the model.

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
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch
from torch.utils.data import DataLoader, Dataset

from halp_probe.engine.images import ImageError, LoadedImage, image_path, load_image
from halp_probe.engine.prompting import Prompt, Prompter, PromptError
from halp_probe.errors import InputError
from halp_probe.records import Failure, Sample

_AHEAD = 2  # images a worker
_START = "fork" if sys.platform == "linux" else "spawn"  # a fork has torch and transformers loaded
_NICENESS = 10  # the model comes first


# Samples on the same images, each as a prompt or as a failure, in the order that they came in.
Prepared: TypeAlias = list[Prompt | Failure]


@dataclass(frozen=True)
class Preparer:
    """Makes the prompts of the samples on the same images."""

    prompter: Prompter
    images_dir: Path

    def __call__(self, samples: Sequence[Sample]) -> Prepared:
        results: Prepared = []
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
        """The images; the last ones again where the same content has another name: it is not preprocessed anew."""
        known = {image.sha256: image for image in last}
        images = [load_image(image_path(self.images_dir, file)) for file in files]
        return [known.get(image.sha256, image) for image in images]


def default_workers(on_cuda: bool) -> int:
    """How many keep the model busy; on the CPU the model itself needs the cores, and a thread beside it does."""
    return min(8, max(1, (os.cpu_count() or 1) - 1)) if on_cuda else 0


def prepared(preparer: Preparer, work: Iterable[Sequence[Sample]], workers: int) -> Iterator[Prepared]:
    """What the preparer makes of each piece of work, in order; with 0 workers in this process.

    Raises what the preparer raises, and InputError when a worker dies.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores: as was asked
        loader = DataLoader(
            _Work(preparer),
            batch_size=None,
            sampler=work,
            num_workers=workers,
            prefetch_factor=_AHEAD if workers else None,
            multiprocessing_context=_START if workers else None,
            worker_init_fn=begin_worker,
        )
        return _results(iter(loader), copy=workers > 0)


class _Work(Dataset[Prepared | InputError]):
    def __init__(self, preparer: Preparer) -> None:
        self._preparer = preparer

    def __getitem__(self, samples: Sequence[Sample]) -> Prepared | InputError:
        try:
            return self._preparer(samples)
        except InputError as error:  # as a value: an exception comes back with its traceback in the message
            return error


def begin_worker(_worker: int) -> None:
    """In a new worker: signals are the main process's business, and the worker ends with it or when it says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in all its threads
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.nice(_NICENESS)


def _end_with(parent: int) -> None:
    """End when the parent is gone, even killed: a worker that waits to send holds the other end of its pipe too.

    End also at its SIGTERM, which it sends while it exits; one to the whole group is not meant for workers.
    """
    wait = getattr(signal, "sigtimedwait", None)  # not on macOS
    while os.getppid() == parent:
        if wait is None:
            time.sleep(1)
        elif (told := wait({signal.SIGTERM}, 1)) is not None and told.si_pid == parent:
            break
    os._exit(1)


def _results(made: Iterator[Prepared | InputError], *, copy: bool) -> Iterator[Prepared]:
    with death_told("prepares images", "with fewer `workers` or a lower `max_pixels`"):
        for result in made:
            if isinstance(result, InputError):
                raise result
            yield _unshared(result) if copy else result


@contextmanager
def death_told(duty: str, remedy: str) -> Iterator[None]:
    """The death of a DataLoader's worker becomes an InputError."""
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:  # the last two: it died while it sent
        if isinstance(error, RuntimeError) and "DataLoader worker (pid" not in str(error):
            raise
        raise InputError(
            f"a process that {duty} died, perhaps for want of memory; run the same command again to go on, {remedy}"
        ) from error


def _unshared(result: Prepared) -> Prepared:
    """With tensors in memory of this process: what a worker sends holds a file descriptor a tensor."""
    copies: dict[int, dict[str, torch.Tensor]] = {}
    results: Prepared = []
    for prompt in result:
        if isinstance(prompt, Prompt):
            if id(prompt.images) not in copies:
                copies[id(prompt.images)] = {name: tensor.clone() for name, tensor in prompt.images.items()}
            prompt = replace(prompt, images=copies[id(prompt.images)])
        results.append(prompt)
    return results
