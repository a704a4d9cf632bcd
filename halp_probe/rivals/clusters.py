"""Sort the answers to one question by meaning: by their normalised text, or by whatever compares two of them.

Legend: M questions, S sampled answers of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from halp_probe.labels.normalise import bare, clean

NONE = -1  # the cluster of an answer that does not exist


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """Meanings of the answers to M questions, numbered from 0 for each question in order of appearance."""

    sampled: np.ndarray  # [M, S] int64; NONE where there is no sample
    greedy: np.ndarray  # [M] int64; NONE where there is no greedy answer

    def __post_init__(self) -> None:
        if self.sampled.ndim != 2 or self.greedy.shape != self.sampled.shape[:1]:
            raise ValueError(f"clusters have shapes {self.sampled.shape} and {self.greedy.shape}, expected [M, S], [M]")


def exact_clusters(
    questions: Sequence[str], greedy: Sequence[str], answers: np.ndarray, answered: np.ndarray
) -> Clusters:
    """Sort by text without case, punctuation, articles and an echoed question, as the labels compare answers.

    `answers` [M, S] are texts, `answered` [M, S] bool says which of them exist.
    """
    rows = []
    for question, first, others, there in zip(questions, greedy, answers, answered, strict=True):
        texts = [normalise(question, text) for text in (first, *others)]
        rows.append(sort_answers(texts, [True, *there], lambda one, other: one == other))
    return as_clusters(rows, answers.shape[1])


def normalise(question: str, answer: str) -> str:
    """Return the form in which two answers to the question are compared."""
    return bare(clean(answer, question))


def sort_answers(texts: Sequence[str], there: Sequence[bool], same: Callable[[str, str], bool]) -> list[int]:
    """Return the cluster of each text: that of the first earlier cluster whose first text means the same.

    As in Kuhn et al. 2023: an answer is compared with one member of each cluster. `there` says which texts exist.
    """
    firsts: list[str] = []
    clusters: list[int] = []
    for text, exists in zip(texts, there, strict=True):
        if not exists:
            clusters.append(NONE)
            continue
        place = next((k for k, first in enumerate(firsts) if same(first, text)), len(firsts))
        if place == len(firsts):
            firsts.append(text)
        clusters.append(place)
    return clusters


def as_clusters(rows: Sequence[Sequence[int]], samples: int) -> Clusters:
    """Return the clusters of M rows, each the greedy answer's and then those of the S sampled ones."""
    table = np.array(rows, dtype=np.int64).reshape(len(rows), samples + 1)
    return Clusters(sampled=table[:, 1:], greedy=table[:, 0])
