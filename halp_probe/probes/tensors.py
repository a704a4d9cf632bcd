"""Numbers of a fitted probe as named tensors, and the probe that they and its card describe.

Legend: D width. A plain probe has mean, scale [D], then coef [1, D] and intercept [1], or weight_i and bias_i; a fused
one the same of each of its parts, behind `part_0/`, `part_1/` ….
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from halp_probe.probes.fitting.comparators import DifferenceOfMeansProbe, RidgeProbe
from halp_probe.probes.fitting.estimators import LinearProbe
from halp_probe.probes.fitting.mlp import MLPProbe
from halp_probe.probes.fusion.fused import FusedProbe, Part
from halp_probe.probes.names import DIFFERENCE, FUSED, LINEAR, MLP, RIDGE

KINDS: dict[str, type] = {
    LINEAR: LinearProbe,
    RIDGE: RidgeProbe,
    DIFFERENCE: DifferenceOfMeansProbe,
    MLP: MLPProbe,
    FUSED: FusedProbe,
}


def kind_of(probe: Any) -> str:
    """Return which of KINDS a fitted probe is."""
    return next(kind for kind, its_class in KINDS.items() if type(probe) is its_class)


def tensors_of(probe: Any) -> dict[str, np.ndarray]:
    """Return the names and arrays that are stored."""
    if isinstance(probe, FusedProbe):
        each = [tensors_of(part.estimator) for part in probe.parts]
        return {f"part_{p}/{name}": array for p, tensors in enumerate(each) for name, array in tensors.items()}
    tensors = {"mean": probe.mean_, "scale": probe.scale_}
    if isinstance(probe, MLPProbe):
        tensors |= {f"weight_{i}": weight for i, weight in enumerate(probe.coefs_)}
        tensors |= {f"bias_{i}": bias for i, bias in enumerate(probe.intercepts_)}
    else:
        tensors |= {"coef": probe.coef_, "intercept": probe.intercept_}
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}


def description_of(probe: Any) -> dict[str, Any]:
    """Return what the card says of a probe beside its tensors: plain numbers, which come back to the last bit."""
    if isinstance(probe, FusedProbe):
        parts = [
            {"inputs": list(part.inputs), "weight": part.weight, **description_of(part.estimator)}
            for part in probe.parts
        ]
        return {
            "kind": FUSED,
            "classes": [0, 1],
            "C": None,
            "parameters": {"intercept": probe.intercept},
            "parts": parts,
        }
    return {
        "kind": kind_of(probe),
        "classes": probe.classes_.tolist(),
        "C": getattr(probe, "C_", None),
        "parameters": {name: value for name, value in probe.get_params().items() if name != "random_state"},
    }


def restore(description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Any:
    """Return the probe. Raises KeyError, TypeError, AttributeError or ValueError for what does not fit together."""
    if description["kind"] == FUSED:
        parts = tuple(
            Part(
                inputs=tuple(map(str, part["inputs"])),
                weight=float(part["weight"]),
                estimator=restore(part, _below(tensors, f"part_{p}/")),
            )
            for p, part in enumerate(description["parts"])
        )
        return FusedProbe(parts=parts, intercept=float(description["parameters"]["intercept"]))
    probe = KINDS[description["kind"]](**description["parameters"])
    if isinstance(probe, MLPProbe):
        layers = range(len(probe.hidden_sizes) + 1)
        probe.coefs_ = [tensors[f"weight_{i}"] for i in layers]
        probe.intercepts_ = [tensors[f"bias_{i}"] for i in layers]
    else:
        probe.coef_, probe.intercept_ = tensors["coef"], tensors["intercept"]
        if description["C"] is not None:
            probe.C_ = description["C"]
    probe.mean_, probe.scale_ = tensors["mean"], tensors["scale"]
    probe.classes_ = np.array(description["classes"])
    probe.n_features_in_ = len(probe.mean_)
    return probe


def _below(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
