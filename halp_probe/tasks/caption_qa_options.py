"""CaptionQA: the options that a question shows, and their order."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence

from halp_probe.labels.normalise import word_set, words_of

CANNOT_FROM_IMAGE = "Cannot answer from the image"
CANNOT_FROM_CAPTION = "Cannot answer from the caption"
SHUFFLES = ("stable", "sequential")

# A question that begins with one of these words counts as a yes/no question in the benchmark's own code.
_BEGINNINGS = word_set("is are was were do does did have has had can could will would should shall may might must")

Order = Callable[[str, int, int], Sequence[int]]  # image id, question's index, number of options -> their order
YesNo = Callable[[str, Sequence[str]], bool]  # question, choices -> whether it is a yes/no question


def shown_options(question: str, choices: Sequence[str], cannot: str, yes_no: YesNo) -> tuple[str, ...]:
    """Return the choices, followed by `cannot` unless it is a yes/no question."""
    return tuple(choices) if yes_no(question, choices) else (*choices, cannot)


def asks_for_no_other(_question: str, choices: Sequence[str]) -> bool:
    """Return whether the choices need no "Cannot answer …" beside them.

    True when one choice begins with the word yes and another with no, or when one already declines to answer.
    """
    first = {words[0] for words in map(words_of, choices) if words}
    return {"yes", "no"} <= first or any(map(declines, choices))


def is_yes_no_by_benchmark(question: str, choices: Sequence[str]) -> bool:
    """Return whether it is a yes/no question by the benchmark's own rule, which takes "Snow" for a "no".

    Only for prompts that must equal the benchmark's.
    """
    lowered = [choice.strip().lower() for choice in choices]
    has_both = any("yes" in choice for choice in lowered) and any("no" in choice for choice in lowered)
    word, space, _ = question.strip().lower().partition(" ")
    return has_both or (bool(space) and word in _BEGINNINGS)


def declines(option: str) -> bool:
    """Return whether the option says that there is no answer: "Cannot answer from the image"."""
    return words_of(option)[:3] == ["can", "not", "answer"]


def stable_order(seed: int) -> Order:
    """Return an order that depends on the seed, the image's id and the question's index alone, not on other rows."""

    def order(image_id: str, index: int, n: int) -> list[int]:
        def drawn(option: int) -> bytes:
            return hashlib.sha256(json.dumps([seed, image_id, index, option]).encode()).digest()

        return sorted(range(n), key=drawn)

    return order


def sequential_order(seed: int) -> Order:
    """Return the benchmark's own order: one generator for all questions, one after the other."""
    generator = random.Random(seed)

    def order(_image_id: str, _index: int, n: int) -> list[int]:
        drawn = list(range(n))
        generator.shuffle(drawn)
        return drawn

    return order
