"""Estimate what a run will cost before it begins: its longest prompts, its batches, the bytes that it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

from halp_probe.engine.images import ImageError, image_path, pixel_count
from halp_probe.engine.preparing import Preparer
from halp_probe.records import Failure, Sample

_MAX_IMAGES = 10_000  # whose headers are read; of more, evenly spaced ones
_ROW_OVERHEAD = 1500  # bytes of a row besides its vectors: texts, numbers, HDF5's own
_SAMPLE_BYTES, _TOKEN_BYTES = 40, 4  # of a sampled answer: its numbers and HDF5's own, and the text of a token


@dataclass(frozen=True, kw_only=True)
class ImageCost:
    """One image of the run, with the longest question on it."""

    image_id: str
    tokens: int  # of the whole prompt
    image_tokens: int
    refused: str = ""  # why there is no prompt


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Estimate of a run."""

    rows: int
    typical: ImageCost  # of median area
    largest: ImageCost
    token_budget: int  # padded tokens a batch
    row_bytes: int
    sampled: int = 0  # answers beside the greedy one, a row

    def __str__(self) -> str:
        """Return the estimate in words, a line each."""
        lines = [_in_words("Largest prompt", self.largest)]
        if self.typical != self.largest:
            lines.append(_in_words("Typical prompt", self.typical))
        batch = max(1, self.token_budget // max(1, self.typical.tokens))
        lines.append(
            f"A batch holds {self.token_budget} padded tokens, about {batch} typical prompt{'s' if batch > 1 else ''}"
            + ("; longer prompts run alone." if self.largest.tokens > self.token_budget else ".")
        )
        lines.append(
            f"{self.rows} rows of about {_size(self.row_bytes)} will take {_size(self.rows * self.row_bytes)}."
        )
        if self.sampled:
            lines.append(f"Each row gets {self.sampled} sampled answers, {self.rows * self.sampled} in all.")
        return "\n".join(lines)


def estimate(
    preparer: Preparer,
    images: Sequence[list[Sample]],
    *,
    vectors: int,
    token_budget: int,
    store_dtype: str,
    question_view: bool,
    sampled: int = 0,
    answer_tokens: int = 0,
) -> Cost:
    """Estimate the cost of these samples, by image, from two prompts: of the largest image and of the median one.

    `vectors` is the number of values in all vectors of a row, `sampled` that of answers beside the greedy one, of at
    most `answer_tokens` tokens.
    """
    step = -(-len(images) // _MAX_IMAGES)
    areas = sorted((_area(preparer, samples), index) for index, samples in enumerate(images[::step]))
    typical, largest = (images[index * step] for _, index in (median_low(areas), areas[-1]))
    return Cost(
        rows=sum(map(len, images)),
        typical=_image_cost(preparer, typical),
        largest=_image_cost(preparer, largest),
        token_budget=token_budget,
        row_bytes=vectors * (4 if store_dtype == "float32" else 2) * (2 if question_view else 1)
        + _ROW_OVERHEAD
        + sampled * (_SAMPLE_BYTES + _TOKEN_BYTES * answer_tokens),
        sampled=sampled,
    )


def _image_cost(preparer: Preparer, samples: Sequence[Sample]) -> ImageCost:
    longest = max(samples, key=lambda sample: len(sample.question))
    (result,) = preparer([longest])
    if isinstance(result, Failure):
        return ImageCost(image_id=longest.image_id, tokens=0, image_tokens=0, refused=result.reason)
    return ImageCost(image_id=longest.image_id, tokens=len(result), image_tokens=result.image_tokens)


def _area(preparer: Preparer, samples: Sequence[Sample]) -> int:
    try:
        return sum(pixel_count(image_path(preparer.images_dir, file)) for file in samples[0].files)
    except ImageError:
        return 0


def _in_words(what: str, cost: ImageCost) -> str:
    if cost.refused:
        return f"{what}: {cost.image_id} will fail ({cost.refused})."
    return f"{what}: {cost.tokens} tokens, {cost.image_tokens} of them for {cost.image_id}."


def _size(count: int) -> str:
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
