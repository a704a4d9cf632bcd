"""Arrangement of results in the report's tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_COLUMNS = 6  # of differences side by side: what a printed page holds
_KINDS = {
    "selected": "Selected inside the training folds",
    "representation": "Each representation",
    "fused": "Fused probes: all representations as one",
    "selected_baseline": "Baseline selected inside the training folds",
    "baseline": "Baselines",
    "baseline_stack": "Stacks of baselines, without and with the selected probe",
    "control": "Controls",
}
Result = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class LayerGrid:
    """Representations by layer (down) and position (across), and the ones without a layer."""

    singles: tuple[Result, ...]
    positions: tuple[str, ...]
    rows: tuple[tuple[int, tuple[Result | None, ...]], ...]  # (layer, one cell a position)

    @property
    def is_long(self) -> bool:
        """True for a model with so many layers that each must fit in one line."""
        return len(self.rows) > 12


def layer_grid(results: Sequence[Result]) -> LayerGrid:
    """Arrange the results of representations by layer and position."""
    shown = [result for result in results if result["kind"] == "representation"]
    layered = {(result["position"], result["layer"]): result for result in shown if result["layer"] is not None}
    positions = tuple(dict.fromkeys(position for position, _ in layered))
    layers = sorted({layer for _, layer in layered})
    rows = tuple((layer, tuple(layered.get((position, layer)) for position in positions)) for layer in layers)
    return LayerGrid(
        singles=tuple(result for result in shown if result["layer"] is None), positions=positions, rows=rows
    )


def by_kind(results: Sequence[Result]) -> list[tuple[str, str, list[Result]]]:
    """Return (kind, heading, results) of each kind that there is, in reading order."""
    groups = [(kind, heading, [r for r in results if r["kind"] == kind]) for kind, heading in _KINDS.items()]
    return [group for group in groups if group[2]]


def differences(results: Sequence[Result]) -> Iterator[tuple[dict[str, str], list[Result]]]:
    """Return tables of paired differences: (title of each baseline by name, results that have any of them)."""
    titles = {result["name"]: str(result["title"]) for result in results}
    names = list(dict.fromkeys(name for result in results for name in result["minus"]))
    n_tables = math.ceil(len(names) / _COLUMNS)
    for number in range(n_tables):  # about equally wide
        here = names[number * len(names) // n_tables : (number + 1) * len(names) // n_tables]
        part = {name: titles.get(name, name.replace("_", " ")) for name in here}
        yield part, [result for result in results if part.keys() & result["minus"].keys()]
