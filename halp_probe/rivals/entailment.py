"""Sort answers by meaning with a local model of natural-language inference: each must entail the other.

Legend: M questions, S sampled answers of each, P pairs of texts, C classes of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, TypeAlias

import numpy as np

from halp_probe.errors import InputError
from halp_probe.rivals.clusters import Clusters, as_clusters, normalise, sort_answers
from halp_probe.shards.reader import Shards

Pair: TypeAlias = tuple[str, str]  # the premise, and what it may entail
Entails: TypeAlias = Callable[[Sequence[Pair]], np.ndarray]  # -> [P] bool

_LONGEST = 512  # tokens of a pair; the rest is cut off


def entailment_clusters(shards: Shards, entails: Entails) -> Clusters:
    """Sort the answers of every question: two mean the same if "question answer" of each entails that of the other.

    As in Kuhn et al. 2023. Answers of one normalised text mean the same without being compared.
    """
    samples, greedy = shards.samples(), shards.text("answer")
    rows = []
    for question, first, others, tokens in zip(
        shards.text("question"), greedy, samples.answer, samples.tokens, strict=True
    ):
        texts = [normalise(question, text) for text in (first, *others)]
        there = [True, *(tokens > 0)]
        distinct = dict.fromkeys(text for text, exists in zip(texts, there, strict=True) if exists)
        pairs = list(permutations(distinct, 2))
        verdicts = entails([(f"{question} {one}", f"{question} {other}") for one, other in pairs]) if pairs else ()
        follows = {pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict}
        rows.append(sort_answers(texts, there, _both_ways(follows)))
    return as_clusters(rows, samples.answer.shape[1])


def _both_ways(follows: set[Pair]) -> Callable[[str, str], bool]:
    return lambda one, other: one == other or ((one, other) in follows and (other, one) in follows)


@dataclass(frozen=True, kw_only=True)
class EntailmentModel:
    """A sequence classifier with a class for entailment, such as microsoft/deberta-large-mnli."""

    model: Any
    tokenizer: Any
    entailment: int  # index of the class
    threshold: float | None = None  # least probability of entailment; None: it is the likeliest class
    batch_size: int = 64

    def __call__(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Return [P] bool: whether the first text of each pair entails the second."""
        probabilities = self.probabilities(pairs)
        if self.threshold is None:
            return probabilities.argmax(1) == self.entailment
        return probabilities[:, self.entailment] >= self.threshold

    def probabilities(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Return [P, C] float64 probabilities of the classes."""
        return np.concatenate(list(self._batches(pairs)))

    def _batches(self, pairs: Sequence[Pair]) -> Iterator[np.ndarray]:
        import torch

        for start in range(0, len(pairs), self.batch_size):
            premises, hypotheses = (list(texts) for texts in zip(*pairs[start : start + self.batch_size], strict=True))
            inputs = self.tokenizer(
                premises, hypotheses, padding=True, truncation=True, max_length=_LONGEST, return_tensors="pt"
            )
            with torch.inference_mode():
                logits = self.model(**inputs.to(self.model.device)).logits
            yield logits.double().softmax(-1).cpu().numpy()


def load_entailment(name: str, *, device: str = "auto", threshold: float | None = None) -> EntailmentModel:
    """Load a classifier by its hub name or folder, in float32.

    Raises InputError if it cannot be loaded, has no class `entailment`, or the threshold is not between 0 and 1.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    if threshold is not None and not 0 < threshold < 1:
        raise InputError(f"`entailment_threshold` {threshold} is not between 0 and 1")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForSequenceClassification.from_pretrained(name, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise InputError(f"`entailment` {name} cannot be loaded: {error}; name a classifier of MNLI") from error
    classes = {int(index): str(label).lower() for index, label in model.config.id2label.items()}
    found = [index for index, label in classes.items() if label == "entailment"]
    if len(found) != 1:
        raise InputError(
            f"`entailment` {name} has the classes {', '.join(classes.values())}, none of them `entailment`; name a "
            "classifier of MNLI, such as microsoft/deberta-large-mnli"
        )
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return EntailmentModel(model=model.to(place).eval(), tokenizer=tokenizer, entailment=found[0], threshold=threshold)
