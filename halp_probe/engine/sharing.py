"""Decide whether prompts on one image may share their prefix, by a trial on a small image with several questions.

Sharing is correct if nothing before a question depends on it. The trial detects a model whose image tokens attend to
the whole prompt (a prefix-LM), and any other whose numbers differ by more than rounding; it runs without sharing. The
effect of rounding is measured in the same trial: the difference between the same prompts one by one and in one batch.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np
import torch

from halp_probe.distances import relative_distance
from halp_probe.engine.engine import Engine
from halp_probe.engine.images import ImageError, ImagesDir, image_path, pixel_count
from halp_probe.engine.prefix import PrefixError
from halp_probe.engine.preparing import Preparer
from halp_probe.engine.prompt_errors import HOPELESS, concerns_one_prompt, describe
from halp_probe.engine.prompting import Prompt
from halp_probe.engine.vision import VisionError
from halp_probe.models.loading import LoadedModel
from halp_probe.records import POSITIONS, USUAL_POSITIONS, Captured, CaptureSpec, Sample

_MAX_QUESTIONS = 4  # on the image of the trial
_MAX_IMAGES = 64  # whose sizes are looked at
_LARGEST_SIDE = 1024  # pixels
_ROUNDINGS = 5  # sharing may differ by this many times what batching does, …
# … or by this, if batching happens to change nothing: a few roundings of numbers as large as the vector's length.
_FLOOR = {torch.float32: 1e-5, torch.bfloat16: 4e-3, torch.float16: 1e-3}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """Outcome of the trial: whether prefixes are shared, and why; differences are |a - b| / |b| of vectors."""

    shared: bool
    reason: str  # why not
    difference: float | None = None  # the largest, shared against one batch without sharing; None: not measured
    rounding: float | None = None  # the largest, one by one against that batch
    decided: bool = True  # False: it could not be tried; a later run may try it


SWITCHED_OFF = Sharing(shared=False, reason="--no-prefix-sharing")
NO_IMAGES = Sharing(shared=False, reason="prompts show no image")


def try_sharing(
    loaded: LoadedModel,
    layers: tuple[int, ...],
    preparer: Preparer,
    images: Sequence[list[Sample]],
    positions: tuple[str, ...] = USUAL_POSITIONS,
) -> Sharing:
    """Compute the smallest image with two usable questions or more in both ways, and compare at all `positions`.

    The smallest of the first images that have several questions; a larger one than a megapixel is shrunk for the trial.
    """
    if images and not images[0][0].files:
        return NO_IMAGES
    if loaded.checkpoint.family.unshared:
        return Sharing(shared=False, reason=loaded.checkpoint.family.unshared)
    errors: list[str] = []
    candidates = islice((samples for samples in images if len(samples) > 1), _MAX_IMAGES)
    by_area = sorted(candidates, key=partial(_area, preparer.images_dir))
    for prompts in _groups(replace(preparer, largest_side=_LARGEST_SIDE), by_area):
        _log.info(
            "Trying %d questions on %s, of %d tokens, with a shared prefix and without.",
            len(prompts),
            prompts[0].sample.image_id,
            max(map(len, prompts)),
        )
        try:
            return try_prompts(loaded, layers, prompts, positions)
        except VisionError:
            continue  # this image fails in the run as well, and is listed there
        except Exception as error:  # see prompt_errors; so does this one
            errors.append(describe(error))
            if not concerns_one_prompt(error) or len(errors) >= HOPELESS:
                raise
    last = f" (last error: {errors[-1]})" if errors else ""
    return Sharing(shared=False, reason=f"no image with two questions can be read{last}", decided=False)


def try_prompts(
    loaded: LoadedModel,
    layers: tuple[int, ...],
    prompts: Sequence[Prompt],
    positions: tuple[str, ...] = USUAL_POSITIONS,
) -> Sharing:
    """Compute different questions on one image in both ways, and compare. Raises VisionError."""
    if loaded.checkpoint.family.unshared:
        return Sharing(shared=False, reason=loaded.checkpoint.family.unshared)
    # The confidence and the answers come from the last block, whatever layers are stored.
    read, tried = tuple(sorted({*layers, loaded.num_layers - 1})), {*USUAL_POSITIONS, *positions}
    spec = CaptureSpec(read, max_new_tokens=0, positions=tuple(name for name in POSITIONS if name in tried))
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
    return judge_difference(largest_difference(shared, whole), largest_difference(alone, whole), loaded.model.dtype)


def judge_difference(difference: float, rounding: float, dtype: torch.dtype) -> Sharing:
    """Decide whether a difference of shared prefixes is no more than rounding."""
    if not np.isfinite([difference, rounding]).all():
        return Sharing(shared=False, reason="states of the image of the trial with several questions are not finite")
    allowed = max(_ROUNDINGS * rounding, _FLOOR[dtype])
    if difference <= allowed:
        return Sharing(shared=True, reason="", difference=difference, rounding=rounding)
    reason = (
        f"states with a shared prefix differ by {difference:.2g} of a vector's length, rounding allows {allowed:.2g}"
    )
    return Sharing(shared=False, reason=reason, difference=difference, rounding=rounding)


def largest_difference(rows: Sequence[Captured], reference: Sequence[Captured]) -> float:
    """Return the largest |a - b| / |b| over all states and confidences; NaN if a value is NaN."""
    pairs = [
        (a, b)
        for row, other in zip(rows, reference, strict=True)
        for a, b in zip(_vectors(row), _vectors(other), strict=True)
    ]
    return float(np.max([relative_distance(a, b) for a, b in pairs]))


def _groups(preparer: Preparer, images: Iterable[list[Sample]]) -> Iterator[list[Prompt]]:
    """Yield two usable questions or more of each image that has them."""
    for samples in images:
        prompts = [prompt for prompt in preparer(samples[:_MAX_QUESTIONS]) if isinstance(prompt, Prompt)]
        if len({prompt.input_ids.tobytes() for prompt in prompts}) > 1:
            yield prompts


def _area(images_dir: ImagesDir, samples: Sequence[Sample]) -> int:
    """Return the pixels of all images of a prompt; those that cannot be read come last."""
    try:
        return sum(pixel_count(image_path(images_dir, file)) or sys.maxsize for file in samples[0].files)
    except ImageError:
        return sys.maxsize


def _vectors(row: Captured) -> list[np.ndarray]:
    confidence = np.array([row.first_token_logprob, row.first_token_entropy])
    states = (row.vision_token, row.image_mean, row.question_end, row.query_token)
    return [*(state for by_layer in states for state in by_layer.values()), confidence]
