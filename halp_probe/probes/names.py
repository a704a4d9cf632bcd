"""Names of the kinds of probes, as the command line, the reports and the files of probes use them."""

from __future__ import annotations

LINEAR, RIDGE, DIFFERENCE, MLP = "linear", "ridge", "difference", "mlp"
KINDS = (LINEAR, RIDGE, DIFFERENCE, MLP)
BALANCED = "balanced"  # class weight: both labels weigh alike
WITH_STRENGTHS = (LINEAR, RIDGE)  # those with a penalty whose strength is chosen
FUSED = "fused"  # made of probes of one of these kinds
STACK, MEAN, CONCAT, STATE_DIFFERENCE = "stack", "mean", "concat", "difference"
FUSIONS = (STACK, MEAN, CONCAT, STATE_DIFFERENCE)  # ways to fuse the probes of all representations
PLATT, ISOTONIC, NONE = "platt", "isotonic", "none"
RISKS = (PLATT, ISOTONIC, NONE)  # calibrations: ways from a score to a risk
