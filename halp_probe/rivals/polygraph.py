"""Run estimators of lm-polygraph on the samples of a run, which they take as their own.

Legend: M questions, S sampled answers of each, A those of them that exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from halp_probe.errors import InputError
from halp_probe.rivals.clusters import Clusters, exact_clusters
from halp_probe.shards.reader import Shards

if TYPE_CHECKING:
    from lm_polygraph.estimators import Estimator


def polygraph_stats(shards: Shards, clusters: Clusters | None = None) -> tuple[dict[str, Any], np.ndarray]:
    """Return the statistics of the questions with samples, by lm-polygraph's names, and the [m] rows of these.

    There are `greedy_texts`, `input_texts` (the questions), `sample_texts`, `sample_log_probs` (nats),
    `sample_tokens` (of the right length, their ids are not stored: all 0) and `semantic_classes_entail`; and, as equal
    and different meanings are all that the clusters know, `semantic_matrix_entail` and `semantic_matrix_contra` of
    ones and zeros. Questions with fewer than S samples are left out of those two rows and of the rest.
    """
    samples = shards.samples()
    answered, greedy, questions = samples.tokens > 0, shards.text("answer"), shards.text("question")
    if clusters is None:
        clusters = exact_clusters(questions, greedy, samples.answer, answered)
    rows = np.flatnonzero(answered.all(1))
    classes = [_in_order(clusters.sampled[row].tolist()) for row in rows]
    same = np.array([[[one == other for other in row] for one in row] for row in classes], dtype=np.float64)
    stats = {
        "input_texts": [questions[row] for row in rows],
        "greedy_texts": [greedy[row] for row in rows],
        "sample_texts": [samples.answer[row].tolist() for row in rows],
        "sample_log_probs": [samples.logprob[row].astype(np.float64).tolist() for row in rows],
        "sample_tokens": [[[0] * count for count in samples.tokens[row].tolist()] for row in rows],
        "semantic_classes_entail": {
            "sample_to_class": {k: dict(enumerate(row)) for k, row in enumerate(classes)},
            "class_to_sample": {k: _members(row) for k, row in enumerate(classes)},
        },
        "semantic_matrix_entail": same,
        "semantic_matrix_contra": 1 - same,
    }
    return stats, rows


def run_estimator(estimator: Estimator, shards: Shards, clusters: Clusters | None = None) -> np.ndarray:
    """Return [M] float64 of an lm-polygraph estimator, higher = riskier; nan for questions without all samples.

    Raises InputError if lm-polygraph is missing, if the object is none of its estimators, or if it needs statistics
    that a run does not hold.
    """
    try:
        from lm_polygraph.estimators.estimator import Estimator as Base
    except ImportError as error:
        raise InputError(f"lm-polygraph is missing ({error}); install it with: pip install lm-polygraph") from error
    if not isinstance(estimator, Base):
        raise InputError(f"{estimator!r} is not an estimator of lm-polygraph; pass one, such as SemanticEntropy()")
    stats, rows = polygraph_stats(shards, clusters)
    _check_dependencies(estimator, stats)
    values = np.full(len(shards.question_ids), np.nan)
    if len(rows):
        values[rows] = np.asarray(estimator(stats), dtype=np.float64)
    return values


def _check_dependencies(estimator: Estimator, stats: Mapping[str, Any]) -> None:
    missing = [name for name in estimator.stats_dependencies if name not in stats]
    if missing:
        raise InputError(
            f"{estimator} needs {', '.join(missing)}, which a run does not hold; there are: {', '.join(stats)}"
        )


def _in_order(clusters: list[int]) -> list[int]:
    """Renumber the clusters from 0 in the order of these samples."""
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    return [numbers[cluster] for cluster in clusters]


def _members(clusters: list[int]) -> list[list[int]]:
    return [[k for k, own in enumerate(clusters) if own == cluster] for cluster in range(max(clusters) + 1)]
