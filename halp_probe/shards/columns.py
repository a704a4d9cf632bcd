"""A block of samples as columns: what a shard, a journal file and a reader hold in memory.

Legend: N samples, D width of a representation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from halp_probe.errors import InputError
from halp_probe.records import (
    IMAGE_MEAN,
    QUERY_TOKEN,
    QUESTION_END,
    VISION_ENCODER,
    VISION_ONLY,
    VISION_TOKEN,
    Captured,
    Sample,
)
from halp_probe.shards.names import layer_name
from halp_probe.shards.sampled import Samples, concatenate_samples, from_sampled

CORE_TEXTS = ("question_id", "image_id", "question", "answer", "ground_truth_answer", "image_sha256")
NUMBERS: dict[str, type[np.generic]] = {
    "token_index/vision": np.int32,
    "token_index/query": np.int32,
    "token_id/vision": np.int32,
    "token_id/query": np.int32,
    "prompt_tokens": np.int32,
    "first_token_logprob": np.float32,
    "first_token_entropy": np.float32,
    "answer_logprob": np.float32,
    "answer_tokens": np.int32,
}
DIFFERENCE_HASH = "image_difference_hash"
FURTHER_NUMBERS: dict[str, type[np.generic]] = {  # of runs that ask for them
    "token_index/question_end": np.int32,
    "token_id/question_end": np.int32,
}
ALL_NUMBERS = {**NUMBERS, **FURTHER_NUMBERS}
IMAGES = "images"  # if prompts show anything but the one file `image_id`: a JSON list of files
OWN_COLUMNS = frozenset({*CORE_TEXTS, *ALL_NUMBERS, "token_index", "token_id", VISION_ONLY, VISION_ENCODER}) | {
    VISION_TOKEN,
    IMAGE_MEAN,
    QUESTION_END,
    QUERY_TOKEN,
}
FURTHER_OWN_TEXTS = (IMAGES, DIFFERENCE_HASH)  # texts that older shards, or most prompts, do not have
RESERVED_COLUMNS = OWN_COLUMNS | set(FURTHER_OWN_TEXTS)  # names that a column of a table must not have


@dataclass(frozen=True, kw_only=True)
class Columns:
    """A block of N samples, column by column."""

    texts: dict[str, list[str]]  # the core texts, then the table's further columns
    numbers: dict[str, np.ndarray]  # [N], dtypes as in ALL_NUMBERS
    vectors: dict[str, np.ndarray]  # representation -> [N, D] float32
    samples: Samples | None = None  # sampled answers, if the run asked for any

    @property
    def question_ids(self) -> list[str]:
        """Question ids of the N samples."""
        return self.texts["question_id"]

    def __len__(self) -> int:
        return len(self.question_ids)

    def take(self, rows: Sequence[int]) -> Columns:
        """Return the given rows, in this order."""
        index = np.asarray(rows, dtype=np.intp)
        return Columns(
            texts={name: [values[row] for row in rows] for name, values in self.texts.items()},
            numbers={name: values[index] for name, values in self.numbers.items()},
            vectors={name: values[index] for name, values in self.vectors.items()},
            samples=None if self.samples is None else self.samples.take(index),
        )


def concatenate(blocks: Sequence[Columns]) -> Columns:
    """Concatenate blocks of the same columns; a text that a block lacks is blank there."""
    first = blocks[0]
    names = dict.fromkeys(name for block in blocks for name in block.texts)

    def text(name: str) -> list[str]:
        return [value for block in blocks for value in block.texts.get(name) or [""] * len(block)]

    samples = [block.samples for block in blocks if block.samples is not None]
    return Columns(
        texts={name: text(name) for name in names},
        numbers={name: np.concatenate([block.numbers[name] for block in blocks]) for name in first.numbers},
        vectors={name: np.concatenate([block.vectors[name] for block in blocks]) for name in first.vectors},
        samples=concatenate_samples(samples) if samples else None,
    )


def table_texts(sample: Sample) -> dict[str, str]:
    """Return a sample's texts from the table, by the names of the columns."""
    return {
        "image_id": sample.image_id,
        "question": sample.question,
        "ground_truth_answer": sample.answer,
        **({} if sample.images is None else {IMAGES: json.dumps(sample.images, ensure_ascii=False)}),
        **sample.extra,
    }


def image_files(stored: str) -> tuple[str, ...]:
    """Return `Sample.images` from the text that `table_texts` made of it. Raises InputError for other text."""
    try:
        return tuple(map(str, json.loads(stored)))
    except (ValueError, TypeError):
        raise InputError(
            f"column {IMAGES!r} holds {stored!r}, not a JSON list of files: it is a column of the table"
        ) from None


def subject(texts: Mapping[str, str]) -> tuple[str, ...]:
    """Return `Sample.subject` from the texts that `table_texts` made of a sample."""
    return (image_files(texts[IMAGES]) if IMAGES in texts else ()) or (texts["image_id"],)


def from_captured(rows: Sequence[Captured]) -> Columns:
    """Convert captured samples into columns; all have the same layers and further columns, and all or none show images.

    Raises InputError for a question with earlier turns, for which there is no column.
    """
    if later := [row.sample.question_id for row in rows if row.sample.history]:
        raise InputError(f"question {later[0]!r} has earlier turns, which a shard does not hold: leave them out")
    texts = [
        {
            "question_id": row.sample.question_id,
            **table_texts(row.sample),
            "answer": row.answer,
            "image_sha256": row.image_sha256,
            DIFFERENCE_HASH: row.image_difference_hash,
        }
        for row in rows
    ]
    numbers = {
        "token_index/vision": [row.vision_index for row in rows],
        "token_index/query": [row.query_index for row in rows],
        "token_id/vision": [row.vision_id for row in rows],
        "token_id/query": [row.query_id for row in rows],
        "prompt_tokens": [row.prompt_tokens for row in rows],
        "first_token_logprob": [row.first_token_logprob for row in rows],
        "first_token_entropy": [row.first_token_entropy for row in rows],
        "answer_logprob": [row.answer_logprob for row in rows],
        "answer_tokens": [row.answer_tokens for row in rows],
    }
    means = {
        VISION_ONLY: [row.vision_only for row in rows if row.vision_only is not None],
        VISION_ENCODER: [row.vision_encoder for row in rows if row.vision_encoder is not None],
    }
    vectors = {name: np.stack(values) for name, values in means.items() if values}
    if rows[0].question_end:
        numbers["token_index/question_end"] = [row.question_end_index for row in rows]
        numbers["token_id/question_end"] = [row.question_end_id for row in rows]
    for position, states in (
        (VISION_TOKEN, [row.vision_token for row in rows]),
        (IMAGE_MEAN, [row.image_mean for row in rows]),
        (QUESTION_END, [row.question_end for row in rows]),
        (QUERY_TOKEN, [row.query_token for row in rows]),
    ):
        for layer in states[0]:
            vectors[layer_name(position, layer)] = np.stack([by_layer[layer] for by_layer in states])
    sampled = [row.sampled for row in rows if row.sampled is not None]
    return Columns(
        texts={name: [text[name] for text in texts] for name in dict.fromkeys([*CORE_TEXTS, *texts[0]])},
        numbers={name: np.asarray(values, dtype=ALL_NUMBERS[name]) for name, values in numbers.items()},
        vectors=vectors,
        samples=from_sampled(sampled) if sampled else None,
    )
