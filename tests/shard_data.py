"""Random columns and shard files for tests, seeded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from halp_probe.shards.columns import NUMBERS, Columns

ATTRIBUTES: dict[str, Any] = {
    "model_name": "Qwen/Qwen2.5-VL-7B-Instruct",
    "model_type": "qwen2.5-vl-7b-instruct",
    "dtype": "float32",
    "device": "cpu",
    "layers": [0, 7],
    "revision": "abc",
}
VISION_MEANS = ("vision_only_representation", "vision_encoder_representation")


def representations(layers: Sequence[int] = (0, 7)) -> list[str]:
    layered = [f"{p}_token_representation/layer_{k}" for p in ("vision", "query") for k in layers]
    return [*VISION_MEANS, *layered]


def columns(ids: Sequence[str], *, width: int = 8, layers: Sequence[int] = (0, 7), seed: int = 0) -> Columns:
    """Valid columns whose every value depends on the id, so that a swapped row shows."""
    rng = np.random.default_rng(seed)
    n = len(ids)
    numbers = {name: rng.integers(1, 50, size=n).astype(dtype) for name, dtype in NUMBERS.items()}
    numbers["token_index/query"] = numbers["prompt_tokens"] - 1
    return Columns(
        texts={
            "question_id": list(ids),
            "image_id": [f"image of {q}.png" for q in ids],
            "question": [f"What of {q}?" for q in ids],
            "answer": [f"answer {q}" for q in ids],
            "ground_truth_answer": [f"truth {q}" for q in ids],
            "image_sha256": [f"{k:064x}" for k in range(n)],
            "category": [f"kind {k % 3}" for k in range(n)],
        },
        numbers=numbers,
        vectors={name: rng.normal(size=(n, width)).astype(np.float32) for name in representations(layers)},
    )


def write_group_per_question(path: Path, data: Columns) -> None:
    """A file as other HALP code writes it: plain float32 arrays under each question."""
    with h5py.File(path, "w") as file:
        for row, question_id in enumerate(data.question_ids):
            group = file.create_group(question_id)
            for name in ("question", "image_id", "answer", "ground_truth_answer"):
                group.create_dataset(name, data=data.texts[name][row])
            for name, vectors in data.vectors.items():
                if name != "vision_encoder_representation":
                    group.create_dataset(name, data=vectors[row])
