"""Measures of uncertainty from sampled answers: pure functions of one question's samples, and all of them at once.

Legend: M questions, S sampled answers of each; p a sample's probability by the model at temperature 1, log p in nats.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from halp_probe.rivals.clusters import NONE, Clusters, exact_clusters
from halp_probe.shards.reader import Shards

DESCRIPTIONS = {
    "inconsistency": "1 - share of the samples in the largest set of one meaning (Wang et al. 2023)",
    "greedy_disagreement": "share of the samples that do not mean what the greedy answer means (Manakul et al. 2023)",
    "predictive_entropy": "-mean log p of the samples: entropy of the answers (Malinin & Gales 2021)",
    "length_normalised_entropy": "-mean log p / tokens of the samples (Malinin & Gales 2021)",
    "semantic_entropy": "-mean log p of each sample's meaning, p summed over its texts (Kuhn et al. 2023)",
    "discrete_semantic_entropy": "entropy of the shares of the meanings among the samples (Farquhar et al. 2024)",
    "lexical_dissimilarity": "1 - mean ROUGE-L of pairs of samples (Fomicheva et al. 2020)",
    "semantic_sets": "number of different meanings among the samples (Lin et al. 2024)",
}
_WORD = re.compile(r"\w+")
_SAME_SEQUENCE = 1e-3  # nats, relative: log-probabilities of one token sequence, computed in different batches


def sampled_measures(shards: Shards, clusters: Clusters | None = None) -> dict[str, np.ndarray]:
    """Compute [M] float64 of each of `DESCRIPTIONS`, higher = riskier; nan where a question has no samples.

    `clusters` say which answers mean the same; None: those whose normalised texts are equal. Raises ShardError if the
    run sampled no answers.
    """
    samples, greedy = shards.samples(), shards.text("answer")
    answered = samples.tokens > 0  # [M, S]
    if clusters is None:
        clusters = exact_clusters(shards.text("question"), greedy, samples.answer, answered)
    if clusters.sampled.shape != samples.answer.shape:
        raise ValueError(f"clusters are of {clusters.sampled.shape} samples, the shards hold {samples.answer.shape}")
    if ((clusters.sampled == NONE) & answered).any():
        raise ValueError("clusters lack a sample that the shards hold")
    measures = {name: np.full(len(greedy), np.nan) for name in DESCRIPTIONS}
    for row in np.flatnonzero(answered.any(1)):
        there = answered[row]
        found = measure(
            texts=samples.answer[row, there].tolist(),
            logprobs=samples.logprob[row, there].astype(np.float64),
            tokens=samples.tokens[row, there],
            clusters=clusters.sampled[row, there],
            greedy=int(clusters.greedy[row]),
        )
        for name, value in found.items():
            measures[name][row] = value
    return measures


def measure(
    *, texts: Sequence[str], logprobs: np.ndarray, tokens: np.ndarray, clusters: np.ndarray, greedy: int
) -> dict[str, float]:
    """Compute the measures of one question from its S samples, by name; `greedy` is the greedy answer's cluster."""
    _, counts = np.unique(clusters, return_counts=True)
    shares = counts / len(texts)
    return {
        "inconsistency": float(1 - shares.max()),
        "greedy_disagreement": float((clusters != greedy).mean()),
        "predictive_entropy": float(-logprobs.mean()),
        "length_normalised_entropy": float(-(logprobs / tokens).mean()),
        "semantic_entropy": semantic_entropy(texts, logprobs, tokens, clusters),
        "discrete_semantic_entropy": float(-(shares * np.log(shares)).sum()),
        "lexical_dissimilarity": lexical_dissimilarity(texts),
        "semantic_sets": float(len(counts)),
    }


def semantic_entropy(texts: Sequence[str], logprobs: np.ndarray, tokens: np.ndarray, clusters: np.ndarray) -> float:
    """Estimate the entropy of the meanings from the likelihoods: -mean over samples of the log p of its meaning.

    A meaning's p is the sum over its different samples: one that was drawn twice counts once in it.
    """
    distinct = _distinct(texts, logprobs, tokens)
    total = {
        cluster: np.logaddexp.reduce(logprobs[[k for k in distinct if clusters[k] == cluster]])
        for cluster in np.unique(clusters)
    }
    return float(-np.mean([total[cluster] for cluster in clusters]))


def _distinct(texts: Sequence[str], logprobs: np.ndarray, tokens: np.ndarray) -> list[int]:
    """Return the first of the samples that are one token sequence: of one text, length and, to rounding, log p."""
    kept: list[int] = []
    for k, text in enumerate(texts):
        repeats = any(
            texts[j] == text
            and tokens[j] == tokens[k]
            and abs(logprobs[j] - logprobs[k]) <= _SAME_SEQUENCE * max(1.0, abs(logprobs[j]))
            for j in kept
        )
        if not repeats:
            kept.append(k)
    return kept


def lexical_dissimilarity(texts: Sequence[str]) -> float:
    """Return 1 - mean ROUGE-L over pairs of texts; nan for a single text."""
    if len(texts) < 2:
        return float("nan")
    words = [_WORD.findall(text.casefold()) for text in texts]
    return float(1 - np.mean([rouge_l(one, other) for one, other in combinations(words, 2)]))


def rouge_l(one: Sequence[str], other: Sequence[str]) -> float:
    """Return the F1 of the longest common subsequence (Lin 2004), without stemming; 1 for two texts of no words."""
    if not one and not other:
        return 1.0
    lengths = [0] * (len(other) + 1)  # of the longest common subsequence with each beginning of `other`
    for word in one:
        diagonal = 0
        for k, against in enumerate(other, start=1):
            diagonal, lengths[k] = lengths[k], diagonal + 1 if word == against else max(lengths[k], lengths[k - 1])
    return 2 * lengths[-1] / (len(one) + len(other))
