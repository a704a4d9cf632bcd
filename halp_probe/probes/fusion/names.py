"""Names of the ways to fuse probes, and of the model's own numbers that go with them."""

from __future__ import annotations

from halp_probe.probes.features import ENTROPY, LOGPROB

STACK, MEAN, CONCAT, DIFFERENCE = "stack", "mean", "concat", "difference"
FUSIONS = (STACK, MEAN, CONCAT, DIFFERENCE)
NUMBERS = (ENTROPY, LOGPROB)  # known before the first token
AND_CONFIDENCE = "_and_confidence"


def fused_name(way: str, *, confidence: bool = False) -> str:
    """Return the name of a fused probe among the results, such as `fused_stack_and_confidence`."""
    return f"fused_{way}{AND_CONFIDENCE if confidence else ''}"
