"""Shards made of arrays, with a planted signal of known strength."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from halp_probe.shards.columns import Columns
from halp_probe.shards.writer import write_shard

VISION = "vision_only_representation"
QUERY = "query_token_representation/layer_3"

# code for a process of its own; None in sys.modules would not do: scipy looks there for torch
BLOCK_TORCH = """import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocker())
"""


@dataclass(frozen=True)
class FakeShards:
    question_ids: tuple[str, ...]
    arrays: dict[str, np.ndarray]
    texts: dict[str, list[str]]
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=lambda: {"model_name": "fake/vlm", "layers": [0, 3]})

    @property
    def representations(self) -> tuple[str, ...]:
        return tuple(self.arrays)

    @property
    def text_columns(self) -> tuple[str, ...]:
        return tuple(self.texts)

    def has(self, name: str) -> bool:
        return name in self.texts or name in self.columns

    def text(self, name: str) -> list[str]:
        return self.texts[name]

    def numbers(self, name: str) -> np.ndarray:
        return self.columns[name]

    def vectors(self, representation: str) -> np.ndarray:
        return self.arrays[representation]


def planted(
    n: int, *, auroc: float, width: int = 8, per_image: int = 3, seed: int = 0
) -> tuple[FakeShards, np.ndarray]:
    """n samples and their labels [n]: noise in the vision mean, a signal of this AUROC in the query token."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.4).astype(int)
    signal = rng.standard_normal((n, width)).astype(np.float32)
    signal[:, 0] += np.sqrt(2) * norm.ppf(auroc) * y
    images = [f"{row // per_image}" for row in range(n)]
    shards = FakeShards(
        question_ids=tuple(f"q{row}" for row in range(n)),
        arrays={VISION: rng.standard_normal((n, width)).astype(np.float32), QUERY: signal},
        texts={
            "image_id": [f"{image}.png" for image in images],
            "image_sha256": [f"{image:0>64}" for image in images],
            "question": [f"Is there a {word} shape?" for word in rng.choice(["red", "blue", "green"], n)],
        },
        columns={"first_token_entropy": rng.random(n).astype(np.float32)},
    )
    return shards, y


def labels_of(shards: FakeShards, y: np.ndarray) -> dict[str, int | None]:
    return {question_id: int(label) for question_id, label in zip(shards.question_ids, y, strict=True)}


def write_inputs(folder: Path, shards: FakeShards, labels: dict[str, int | None]) -> list[str]:
    """Two shard files and labels.csv; the flags that name them."""
    (folder / "shards").mkdir()
    texts = {"question_id": list(shards.question_ids), **shards.texts}
    texts |= dict.fromkeys(("answer", "ground_truth_answer"), ["yes"] * len(shards.question_ids))
    columns = Columns(texts=texts, numbers=shards.columns, vectors=shards.arrays)
    half = len(shards.question_ids) // 2
    for part, rows in enumerate((range(half), range(half, len(shards.question_ids))), 1):
        path = folder / "shards" / f"fake_embeddings_part_{part:03d}.h5"
        write_shard(path, columns.take(rows), {"model_name": "fake/vlm", "layers": [0, 3]}, question_view=False)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question_id", "label"])
        writer.writerows((name, "" if label is None else label) for name, label in labels.items())
    flags = ["--shards", folder / "shards", "--labels", folder / "labels.csv", "--output-dir", folder / "out"]
    return [str(flag) for flag in flags]
