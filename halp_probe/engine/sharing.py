"""Whether prompts on one image may share their prefix: tried on the first image that has several questions.

Sharing is right when nothing before a question depends on it. A model whose image tokens see the whole prompt (a
prefix-LM) is found out here, and so is any other whose numbers differ by more than rounding; it runs without sharing.
How much rounding makes is measured on the spot: how far the same prompts are apart one by one and in one batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from halp_probe.distances import relative_distance
from halp_probe.engine.engine import Engine
from halp_probe.engine.prefix import PrefixError
from halp_probe.engine.preparing import Preparer
from halp_probe.engine.prompting import Prompt
from halp_probe.engine.vision import VisionError
from halp_probe.models.loading import LoadedModel
from halp_probe.records import Captured, CaptureSpec, Sample

_TRIED = 4  # questions on the first image
_ROUNDINGS = 5  # sharing may differ by so many times what batching does, …
# … or by this, where batching happens to change nothing: a few roundings of numbers as long as the vector.
_FLOOR = {torch.float32: 1e-5, torch.bfloat16: 4e-3, torch.float16: 1e-3}


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """Whether prefixes are shared, and what was found when it was tried; differences are |a - b| / |b| of vectors."""

    shared: bool
    reason: str  # why not
    difference: float | None = None  # the largest, shared against one batch without sharing; None: not measured
    rounding: float | None = None  # the largest, one by one against that batch
    decided: bool = True  # False: it could not be tried, and may be by a later run


SWITCHED_OFF = Sharing(shared=False, reason="--no-prefix-sharing")
NO_IMAGES = Sharing(shared=False, reason="prompts show no image")


def try_sharing(
    loaded: LoadedModel, layers: tuple[int, ...], preparer: Preparer, images: Sequence[list[Sample]]
) -> Sharing:
    """Compute the first image with two good questions or more both ways."""
    if images and not images[0][0].files:
        return NO_IMAGES
    if loaded.checkpoint.family.unshared:
        return Sharing(shared=False, reason=loaded.checkpoint.family.unshared)
    for prompts in _groups(preparer, images):
        try:
            return _tried(loaded, layers, prompts)
        except VisionError:
            continue  # this image fails in the run as well, and is listed there
    return Sharing(shared=False, reason="no image with two questions can be read", decided=False)


def _tried(loaded: LoadedModel, layers: tuple[int, ...], prompts: Sequence[Prompt]) -> Sharing:
    # Of the last block come the confidence and the answers, whatever layers are stored.
    spec = CaptureSpec(tuple(sorted({*layers, loaded.num_layers - 1})), max_new_tokens=0)
    plain = Engine(loaded, spec)
    try:
        whole = plain.run(prompts)
        alone = [row for prompt in prompts for row in plain.run([prompt])]
        shared = Engine(loaded, spec, share_prefix=True).run(prompts)
    except torch.OutOfMemoryError:
        reason = f"{len(prompts)} questions on one image do not fit the device's memory"
        return Sharing(shared=False, reason=reason, decided=False)
    except PrefixError as error:
        return Sharing(shared=False, reason=str(error))
    return judged(largest_difference(shared, whole), largest_difference(alone, whole), loaded.model.dtype)


def judged(difference: float, rounding: float, dtype: torch.dtype) -> Sharing:
    if not np.isfinite([difference, rounding]).all():
        return Sharing(shared=False, reason="states of the first image with several questions are not finite")
    allowed = max(_ROUNDINGS * rounding, _FLOOR[dtype])
    if difference <= allowed:
        return Sharing(shared=True, reason="", difference=difference, rounding=rounding)
    reason = (
        f"states with a shared prefix differ by {difference:.2g} of a vector's length, rounding allows {allowed:.2g}"
    )
    return Sharing(shared=False, reason=reason, difference=difference, rounding=rounding)


def largest_difference(rows: Sequence[Captured], reference: Sequence[Captured]) -> float:
    """Over all states and confidences, |a - b| / |b|; NaN when one is not a number."""
    pairs = [
        (a, b)
        for row, other in zip(rows, reference, strict=True)
        for a, b in zip(_vectors(row), _vectors(other), strict=True)
    ]
    return float(np.max([relative_distance(a, b) for a, b in pairs]))


def _groups(preparer: Preparer, images: Iterable[list[Sample]]) -> Iterator[list[Prompt]]:
    """Two good questions or more of each image that has them."""
    for samples in images:
        if len(samples) < 2:
            continue
        prompts = [prompt for prompt in preparer(samples[:_TRIED]) if isinstance(prompt, Prompt)]
        if len({prompt.input_ids.tobytes() for prompt in prompts}) > 1:
            yield prompts


def _vectors(row: Captured) -> list[np.ndarray]:
    confidence = np.array([row.first_token_logprob, row.first_token_entropy])
    return [*row.vision_token.values(), *row.query_token.values(), confidence]
