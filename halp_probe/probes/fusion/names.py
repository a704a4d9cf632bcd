"""Names of fused probes, and of the model's own numbers that go with them."""

from __future__ import annotations

from halp_probe.probes.features import ENTROPY, LOGPROB

NUMBERS = (ENTROPY, LOGPROB)  # known before the first token


def fused_name(way: str, *, confidence: bool = False) -> str:
    """Return the name of a fused probe among the results, such as `fused_stack_and_confidence`."""
    return f"fused_{way}{'_and_confidence' if confidence else ''}"
