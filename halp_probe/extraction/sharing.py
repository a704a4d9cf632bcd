"""Whether prompts on one image may share their prefix: tried on the first image that has several questions.

Sharing is right when nothing before a question depends on it. A model whose image tokens see the whole prompt
(a prefix-LM), or whatever else makes the numbers differ, is found out here and runs without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from halp_probe.extraction.engine import Engine
from halp_probe.extraction.prefix import PrefixError
from halp_probe.extraction.preparing import Preparer
from halp_probe.extraction.prompting import Prompt
from halp_probe.models.loading import LoadedModel
from halp_probe.records import Captured, CaptureSpec, Sample

_TRIED = 4  # questions on the first image
# The largest difference that rounding may make: relative to a vector's largest value in float32, else 1 - cosine.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-3, torch.float16: 1e-3}


@dataclass(frozen=True)
class Sharing:
    """Whether prefixes are shared, how far the states were from those without sharing, and why they are not shared."""

    shared: bool
    difference: float | None  # None: not measured
    reason: str


def try_sharing(
    loaded: LoadedModel, layers: tuple[int, ...], preparer: Preparer, images: Iterable[list[Sample]]
) -> Sharing:
    """Compute the first image with two good questions or more both ways."""
    if loaded.checkpoint.family.prefix_lm:
        return Sharing(False, None, "in this family image tokens see the question (prefix-LM)")
    prompts = _first_group(preparer, images)
    if not prompts:
        return Sharing(False, None, "no image has two questions")
    spec = CaptureSpec(layers, max_new_tokens=0)
    try:
        whole = Engine(loaded, spec).run(prompts)
        shared = Engine(loaded, spec, share_prefix=True).run(prompts)
    except torch.OutOfMemoryError:
        return Sharing(False, None, f"{len(prompts)} questions on one image do not fit the device's memory")
    except PrefixError as error:
        return Sharing(False, None, str(error))
    return _judged(shared, whole, loaded.model.dtype)


def _judged(shared: Sequence[Captured], whole: Sequence[Captured], dtype: torch.dtype) -> Sharing:
    exact = dtype == torch.float32
    difference = max(
        _difference(a, b, _relative if exact else _one_minus_cosine) for a, b in zip(shared, whole, strict=True)
    )
    tolerance = _TOLERANCE[dtype]
    if difference <= tolerance:
        return Sharing(True, difference, "")
    unit = "relative" if exact else "1 - cosine"
    return Sharing(False, difference, f"states with it differ by {difference:.2g} ({unit}; allowed {tolerance:g})")


def _first_group(preparer: Preparer, images: Iterable[list[Sample]]) -> list[Prompt]:
    for samples in images:
        if len(samples) < 2:
            continue
        prompts = [prompt for prompt in preparer(samples[:_TRIED]) if isinstance(prompt, Prompt)]
        if len({prompt.input_ids.tobytes() for prompt in prompts}) > 1:
            return prompts
    return []


def _difference(ours: Captured, reference: Captured, measure: Callable[[np.ndarray, np.ndarray], float]) -> float:
    """The largest over all states of one sample."""
    pairs = [
        (getattr(ours, position)[layer], vector)
        for position in ("vision_token", "query_token")
        for layer, vector in getattr(reference, position).items()
    ]
    return max(measure(a, b) for a, b in pairs)


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def _one_minus_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(1 - (a @ b) / (np.linalg.norm(a) * np.linalg.norm(b)))
