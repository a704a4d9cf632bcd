"""Prompts that ask a model about its own answer, what its replies say, and how much it depends on the picture. Pure.

Legend: M questions, V vocabulary.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from halp_probe.errors import InputError
from halp_probe.rivals.table import read_rivals

ASKED_FILE = "asked.csv"
DESCRIPTIONS = {
    "p_false": "1 - P(True), the model's own probability that its answer is true (Kadavath et al. 2022)",
    "verbalised_doubt": "1 - the confidence that the model says (Lin et al. 2022)",
    "no_image_kl": "-KL, in nats, of the first token with the picture against without: low dependence is risky",
    "no_image_tv": "- total variation, likewise",
    "other_image_kl": "-KL, in nats, of the first token with the picture against another's",
    "other_image_tv": "- total variation, likewise",
}
_TRUE, _FALSE = ("A", " A", "True", " True", "true", " true"), ("B", " B", "False", " False", "false", " false")
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)\s*(%|/\s*100\b|out of 100\b|percent\b)?", re.IGNORECASE)


def asked_measures(path: Path, question_ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Read an `asked.csv` as measures, [M] float64 of those of `DESCRIPTIONS` that it has, higher = riskier."""
    columns = read_rivals(path, question_ids)
    measures = {
        "p_false": 1 - columns["p_true"] if "p_true" in columns else None,
        "verbalised_doubt": 1 - columns["verbalised_confidence"] if "verbalised_confidence" in columns else None,
        **{name: -columns[name] for name in DESCRIPTIONS if name in columns},
    }
    return {name: values for name, values in measures.items() if values is not None}


def true_or_false(question: str, answer: str) -> str:
    """Return the prompt whose first token is read for P(True)."""
    return (
        f"Question: {question}\nProposed answer: {answer}\nIs the proposed answer true?\n(A) True\n(B) False\n"
        "Reply with the letter A or B alone."
    )


def how_confident(question: str, answer: str) -> str:
    """Return the prompt whose answer is parsed as a confidence."""
    return (
        f"Question: {question}\nProposed answer: {answer}\nHow likely is it, in percent, that the proposed answer is "
        "correct? Reply with one number from 0 to 100 alone."
    )


def option_ids(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the ids of the tokens with which "A" or "True", and "B" or "False", begin, in all their spellings.

    An id with which both begin, such as that of a space, tells nothing and is left out. Raises InputError if none is
    left.
    """
    true, false = (
        {tokenizer(text, add_special_tokens=False).input_ids[0] for text in texts} for texts in (_TRUE, _FALSE)
    )
    if not (true - false and false - true):
        raise InputError("`rivals` p-true: this tokenizer begins A and B with the same token; leave p-true out")
    return sorted(true - false), sorted(false - true)


def p_true(logprobs: np.ndarray, ids: tuple[Sequence[int], Sequence[int]]) -> tuple[float, float]:
    """Return P(True) among the options, and the options' share of all probability; `logprobs` is [V] nats."""
    true, false = (float(np.exp(logprobs[list(each)].astype(np.float64)).sum()) for each in ids)
    return (true / (true + false) if true + false > 0 else math.nan), true + false


def parse_confidence(text: str) -> float:
    """Return the confidence in 0..1 that a reply names; nan if it names none, or several different ones.

    "85", "85%" and "85/100" are .85; a number with a decimal point and no percent sign, up to 1, is itself.
    """
    values = {_as_share(number, unit) for number, unit in _NUMBER.findall(text)}
    return values.pop() if len(values) == 1 else math.nan


def _as_share(number: str, unit: str) -> float:
    value = float(number)
    share = value if "." in number and not unit and 0 <= value <= 1 else value / 100
    return share if 0 <= share <= 1 else math.nan


def divergence(shown: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return KL(shown || other) in nats and the total variation, of two log-probabilities [V]."""
    p_log, q_log = shown.astype(np.float64), other.astype(np.float64)
    p = np.exp(p_log)
    held = p > 0
    return (
        float((p[held] * (p_log[held] - q_log[held])).sum()),
        float(np.abs(p - np.exp(q_log)).sum() / 2),
    )


def image_columns(name: str, shown: np.ndarray, other: np.ndarray) -> Mapping[str, float]:
    """Return the two columns of one comparison, `no_image` or `other_image`."""
    kl, tv = divergence(shown, other)
    return {f"{name}_kl": kl, f"{name}_tv": tv}
