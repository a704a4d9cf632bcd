"""Differences of two states of one question: query minus vision token at a layer, a layer minus the one before it.

Legend: N rows, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from halp_probe.records import QUERY_TOKEN, VISION_TOKEN
from halp_probe.shards.names import layer_name, layer_of


@dataclass(frozen=True)
class StateDifference:
    """Two representations of one width: the first minus the second."""

    first: str
    second: str

    @property
    def name(self) -> str:
        """Name in words, such as `query_token_representation/layer_7 - vision_token_representation/layer_7`."""
        return f"{self.first} - {self.second}"


def differences(representations: Sequence[str]) -> tuple[StateDifference, ...]:
    """Return the differences that these representations allow: of positions at one layer, of layers at one position."""
    layers = {
        position: sorted(layer for name in representations if (layer := _layer_at(name, position)) is not None)
        for position in (VISION_TOKEN, QUERY_TOKEN)
    }
    across = [
        StateDifference(layer_name(QUERY_TOKEN, layer), layer_name(VISION_TOKEN, layer))
        for layer in layers[QUERY_TOKEN]
        if layer in layers[VISION_TOKEN]
    ]
    along = [
        StateDifference(layer_name(position, later), layer_name(position, earlier))
        for position in (VISION_TOKEN, QUERY_TOKEN)
        for earlier, later in pairwise(layers[position])
    ]
    return (*across, *along)


def _layer_at(name: str, position: str) -> int | None:
    return layer_of(name) if name.startswith(f"{position}/") else None
