"""Choice of an answer's tokens: greedy or sampled, with random numbers of its own for each sampled answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from halp_probe.errors import InputError

_RANGE = (1e-6, 1e6)  # of a temperature or a penalty: scores divided by it stay finite in float32


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Settings of greedy answers, or of sampled ones with a temperature; raises InputError for other values.

    Sampling uses these numbers alone: the sampling settings of a checkpoint's generation_config (temperature, top_p,
    top_k, min_p, typical_p, …) are ignored. Its repetition penalty applies, unless one is given.
    """

    temperature: float | None = None  # None or 0: greedy
    top_p: float = 1.0  # the likeliest tokens that together have this probability, 1 = all
    repetition_penalty: float | None = None  # None: the checkpoint's own, 1 = none
    seed: int = 0  # of sampled answers

    def __post_init__(self) -> None:
        if self.is_sampled:
            _check_range("temperature", self.temperature, "0 is greedy")
        if self.repetition_penalty is not None:
            _check_range("repetition_penalty", self.repetition_penalty, "1 is none")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p {self.top_p} is not above 0 and at most 1; 1 leaves every token in")
        if self.top_p < 1 and not self.is_sampled:
            raise InputError(
                f"top_p {self.top_p} would do nothing: without a temperature answers are greedy; give one, as in "
                "`temperature=0.7`, or leave top_p out"
            )

    @property
    def is_sampled(self) -> bool:
        """Return whether answers are sampled."""
        return self.temperature is not None and self.temperature != 0

    def settings(self) -> dict[str, Any]:
        """Return the settings that can change an answer, and no others, for a run's record."""
        if not self.is_sampled:
            return {"temperature": None, "repetition_penalty": self.repetition_penalty}
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "repetition_penalty": self.repetition_penalty,
            "seed": self.seed,
        }

    def stream(self, key: str, attempt: int = 1) -> int:
        """Return the 128-bit seed of one answer, from the run's seed, the question's id and the attempt."""
        named = json.dumps([self.seed, key, attempt])
        return int.from_bytes(hashlib.sha256(named.encode()).digest()[:16], "big")

    def uniforms(self, keys: Sequence[str], attempt: int, tokens: int) -> np.ndarray:
        """Draw [keys, tokens] float64 in [0, 1): a row depends on its own key, its beginning not on `tokens`."""
        rows = [np.random.Generator(np.random.Philox(key=self.stream(key, attempt))).random(tokens) for key in keys]
        return np.array(rows).reshape(len(keys), tokens)


GREEDY = Decoding()


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Answers that are sampled beside the greedy one: how many of each question, and how.

    They come from the plain softmax at this temperature: no top_p, and no repetition penalty, also where the checkpoint
    has one, because estimators of uncertainty take the answers for draws from the model's own distribution.
    """

    count: int
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"`samples` is {self.count}; pass 1 or more, or leave it out for no sampled answers")
        if not self.decoding.is_sampled:
            raise InputError(f"`sample_temperature` {self.temperature} would repeat the greedy answer; pass 1.0")

    @property
    def decoding(self) -> Decoding:
        """How one of the answers is sampled; its random numbers are those of the question and of its own number."""
        return Decoding(temperature=self.temperature, repetition_penalty=1.0, seed=self.seed)

    def settings(self) -> dict[str, Any]:
        """Return what a run's record holds of it."""
        return {"samples": self.count, "sample_temperature": float(self.temperature), "sample_seed": self.seed}


def _check_range(name: str, value: float | None, remark: str) -> None:
    low, high = _RANGE
    if value is None or not low <= value <= high:
        raise InputError(f"{name} {value} is not a number from {low:g} to {high:g}; {remark}")
