"""Names of the kinds of probes, as the command line, the reports and the files of probes use them."""

from __future__ import annotations

LINEAR, RIDGE, DIFFERENCE, MLP = "linear", "ridge", "difference", "mlp"
KINDS = (LINEAR, RIDGE, DIFFERENCE, MLP)
BALANCED = "balanced"  # class weight: both labels weigh alike
WITH_STRENGTHS = (LINEAR, RIDGE)  # those with a penalty whose strength is chosen
PLATT, ISOTONIC, NONE = "platt", "isotonic", "none"
RISKS = (PLATT, ISOTONIC, NONE)  # calibrations: ways from a score to a risk
