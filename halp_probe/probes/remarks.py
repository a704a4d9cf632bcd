"""Findings as things: a level, a text, and how numbers stand in it."""

from __future__ import annotations

from dataclasses import dataclass

from halp_probe.bootstrap import Estimate

SERIOUS, CAUTION, NOTE = "serious", "caution", "note"
LEVELS = (SERIOUS, CAUTION, NOTE)


@dataclass(frozen=True)
class Finding:
    """Remark on a study and how serious it is."""

    level: str  # one of LEVELS
    text: str


def two_digits(value: float) -> str:
    """Format with two digits: .83 for 0.83."""
    return f"{value:.2f}".removeprefix("0")


def with_interval(estimate: Estimate) -> str:
    """Format the value and its interval: 0.830 (0.790 to 0.870)."""
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})".replace("-", "−")


def listed(values: list[str], most: int = 3) -> str:
    """Join the first few, with … for the others."""
    return ", ".join(values[:most]) + (", …" if len(values) > most else "")
