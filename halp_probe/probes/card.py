"""What a probe's card says of the vectors that it reads: which they are, and of which model and prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from halp_probe.records import QUERY_TOKEN, VISION_ENCODER, VISION_ONLY, VISION_TOKEN
from halp_probe.shards.names import PROMPT_SETTINGS, layer_of

POSITION_RULES = {
    VISION_ONLY: "mean over the image's tokens of the vision tower's output after the projector",
    VISION_ENCODER: "mean over the image's patches of the vision tower's output before the projector",
    VISION_TOKEN: "the last position whose input id is the image token",
    QUERY_TOKEN: "the last position of the prompt, after the generation prompt",
}
# Attributes of shards that decide what a vector is; a card has null for one that the shards do not have.
MODEL = ("model_name", "revision", "model_type", "config_model_type", "num_layers", "layers", "layer_meaning")
LOADED_WITH = (
    "adapters",
    "adapter_names",
    "quantization",
    "intervention",
    "family_looked_up",
)  # null also where there were none
PROMPT = (*PROMPT_SETTINGS, "dtype")


def vectors_card(representation: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a card that follows from the representation and from the attributes of its shards."""
    position = representation.split("/")[0]
    return {
        "representation": representation,
        "position": position.removesuffix("_representation"),
        "position_rule": POSITION_RULES.get(position),
        "layer": layer_of(representation),
        **{name: attributes.get(name) for name in (*MODEL, *LOADED_WITH, *PROMPT)},
    }
