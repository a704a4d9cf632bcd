"""A study as researchers have them: six sources with base rates of their own, unequal numbers of questions an image.

Legend: N rows, D width.
"""

from __future__ import annotations

import numpy as np
from probes_fake import QUERY, VISION, FakeShards

LAYERS = (0, 3, 7, 11)
# source: its share of the images, its rate of label 1. Two never have label 1: about .1 over all rows.
SOURCES = {
    "vizwiz": (0.2, 0.22),
    "vqav2": (0.2, 0.12),
    "gqa": (0.2, 0.07),
    "textvqa": (0.15, 0.19),
    "chartqa": (0.1, 0.0),
    "synthetic": (0.15, 0.0),
}


def realistic(
    n_images: int = 300, *, signal: float = 1.2, name_source: bool = True, seed: int = 0
) -> tuple[FakeShards, np.ndarray]:
    """Shards and labels [N]: the query token reads a part of what makes an answer wrong, beyond its source.

    `template` is finer than `source` and says as much; `batch` says nothing; `annotator` has a value for each image.
    """
    rng = np.random.default_rng(seed)
    names, (shares, rates) = list(SOURCES), np.array(list(SOURCES.values())).T
    source_of_image = rng.choice(len(names), n_images, p=shares / shares.sum())
    images = np.repeat(np.arange(n_images), 1 + rng.geometric(0.25, n_images).clip(max=12))  # [N]
    source, n = source_of_image[images], len(images)
    hard = rng.standard_normal(n_images)[images]  # [N] the same for all questions on an image
    own = rng.standard_normal(n)
    rank = (np.sqrt(0.4) * hard + np.sqrt(0.6) * own).argsort().argsort() / n
    y = (rank > 1 - rates[source]).astype(int)
    arrays = {VISION: _vectors(rng, n, 0.4 * hard)}
    for depth, layer in enumerate(LAYERS):
        arrays[f"query_token_representation/layer_{layer}"] = _vectors(rng, n, signal * depth / 3 * (own + hard))
    template = [f"{names[s]}-{rng.integers(3)}" for s in source]
    texts = {
        "image_id": [f"{image}.png" for image in images],
        "image_sha256": [f"{image:0>64}" for image in images],
        "question": [f"{rng.choice(['Is', 'What', 'Where'])} {rng.choice(['it', 'that', 'this'])}?" for _ in range(n)],
        "ground_truth_answer": [str(rng.choice(["yes", "no", "two", "red"])) for _ in range(n)],
        "template": template,
        "batch": [str(rng.integers(8)) for _ in range(n)],
        "annotator": [f"a{image}" for image in images],
    }
    if name_source:
        texts["source"] = [names[s] for s in source]
    columns = {
        "first_token_entropy": (0.3 * own + 0.25 * y + rng.random(n)).astype(np.float32),
        "answer_logprob": (-0.4 * y - rng.random(n)).astype(np.float32),
        "answer_tokens": (1 + rng.poisson(3 + 2 * y)).astype(np.int32),
    }
    return FakeShards(tuple(f"q{row}" for row in range(n)), arrays, texts, columns), y


def _vectors(rng: np.random.Generator, n: int, along: np.ndarray, width: int = 16) -> np.ndarray:
    """Noise [N, D] with `along` [N] in the first direction."""
    vectors = rng.standard_normal((n, width))
    vectors[:, 0] += along
    return vectors.astype(np.float32)


__all__ = ["LAYERS", "QUERY", "SOURCES", "VISION", "realistic"]
