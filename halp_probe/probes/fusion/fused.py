"""Fused probe: a weighted sum of the log-odds of probes that each read one state, a difference of two, or a number.

Legend: N rows, P parts, D width of an input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from halp_probe.probes.fitting.estimators import LinearProbe
from halp_probe.probes.fusion.names import NUMBERS


class InputSource(Protocol):
    """Source of what a probe reads: opened shards, or a batch that a model just computed."""

    def vectors(self, representation: str, /) -> np.ndarray:
        """Return [N, D] float32."""

    def numbers(self, name: str, /) -> np.ndarray:
        """Return [N], one of the model's own numbers such as `first_token_entropy`."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One probe among those of a fused one, and how much its log-odds count."""

    inputs: tuple[str, ...]  # a representation; two, of which the second is subtracted; or the name of a number
    estimator: Any  # reads [N, D]
    weight: float

    def log_odds(self, source: InputSource) -> np.ndarray:
        """Return [N], weighted; nan where an input is not finite."""
        first, *others = (read_input(source, name) for name in self.inputs)
        values = np.subtract(first, others[0]) if others else first
        found = np.full(len(values), np.nan)
        known = np.isfinite(values).all(axis=1)
        if known.any():
            found[known] = self.weight * self.estimator.decision_function(values[known])
        return found


@dataclass(frozen=True, kw_only=True)
class FusedProbe:
    """Probe whose log-odds are the sum of its parts' and of `intercept`."""

    parts: tuple[Part, ...]
    intercept: float = 0.0

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of all that it reads, each once."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.inputs))

    def log_odds(self, source: InputSource) -> np.ndarray:
        """Return [N] float64; nan where an input is not finite."""
        return np.sum([part.log_odds(source) for part in self.parts], axis=0) + self.intercept


def one_part(name: str, estimator: Any) -> FusedProbe:
    """Return the probe of one representation as a fused one."""
    return FusedProbe(parts=(Part(inputs=(name,), estimator=estimator, weight=1.0),))


def number_part(name: str) -> FusedProbe:
    """Return the fused probe that gives a number of the model as it is."""
    return one_part(name, direction(np.zeros(1), np.ones(1), np.ones(1)))


def add_up(probes: Sequence[FusedProbe], weights: np.ndarray, intercept: float) -> FusedProbe:
    """Return the weighted sum of fused probes, as one; `weights` [P]."""
    parts = tuple(
        replace(part, weight=float(part.weight * weight))
        for probe, weight in zip(probes, weights, strict=True)
        for part in probe.parts
    )
    constants = sum(float(weight) * probe.intercept for probe, weight in zip(probes, weights, strict=True))
    return FusedProbe(parts=parts, intercept=float(intercept + constants))


def direction(mean: np.ndarray, scale: np.ndarray, coef: np.ndarray) -> LinearProbe:
    """Return a linear probe of these numbers [D], without an intercept."""
    probe = LinearProbe()
    probe.mean_, probe.scale_ = mean.astype(np.float64), scale.astype(np.float64)
    probe.coef_, probe.intercept_ = coef.astype(np.float64)[None], np.zeros(1)
    probe.classes_, probe.n_features_in_ = np.arange(2), len(mean)
    return probe


def read_input(source: InputSource, name: str) -> np.ndarray:
    """Return [N, D] of a representation, or [N, 1] of a number."""
    return np.asarray(source.numbers(name))[:, None] if name in NUMBERS else source.vectors(name)
