"""Card of a probe: which vectors it reads, and of which model and prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from halp_probe.errors import InputError
from halp_probe.records import IMAGE_MEAN, QUERY_TOKEN, QUESTION_END, VISION_ENCODER, VISION_ONLY, VISION_TOKEN
from halp_probe.shards.names import layer_of
from halp_probe.state_identity import PROBE_ON_SHARDS, StateIdentity

POSITION_RULES = {
    VISION_ONLY: "mean over the image's tokens of the vision tower's output after the projector",
    VISION_ENCODER: "mean over the image's patches of the vision tower's output before the projector",
    VISION_TOKEN: "the last position whose input id is the image token",
    IMAGE_MEAN: "mean over all positions of the decoder whose input id is the image token",
    QUESTION_END: "the token with the last character, other than white space, of the question in the last user turn",
    QUERY_TOKEN: "the last position of the prompt, after the generation prompt",
}
# Attributes of shards that a reader of the card wants to know, beside the identity of their states.
_ABOUT = ("model_name", "model_type", "num_layers", "layers", "adapter_names", "dtype")


def vectors_card(representation: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a card that follows from the representation and from the attributes of its shards.

    It has null for an attribute that the shards do not have.
    """
    position = representation.split("/")[0]
    return {
        "representation": representation,
        "position": position.removesuffix("_representation"),
        "position_rule": POSITION_RULES.get(position),
        "layer": layer_of(representation),
        **{name: attributes.get(name) for name in _ABOUT},
        **StateIdentity.of_shards(attributes).card(),
    }


def fused_card(name: str, inputs: Sequence[str], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a fused probe's card that follows from what it reads and from the attributes of its shards."""
    positions = dict.fromkeys(each.split("/")[0] for each in inputs)
    rules = {position: POSITION_RULES[position] for position in positions if position in POSITION_RULES}
    return {
        "name": name,
        "representation": None,
        "inputs": list(inputs),
        "position_rules": rules,
        **{name: attributes.get(name) for name in _ABOUT},
        **StateIdentity.of_shards(attributes).card(),
    }


def check_same_states(card: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    """Raise InputError when shards with these attributes hold states of another model or prompt than the probe reads.

    Fields that either side does not record are not compared.
    """
    trained, here = StateIdentity.of_card(card), StateIdentity.of_shards(attributes)
    if found := trained.differences(here, PROBE_ON_SHARDS):
        raise InputError(
            "the probe was trained on other states: "
            f"{'; '.join(each.between('in its card', 'in these shards') for each in found)}. Pass shards of "
            f"{card.get('model_name')} that were captured as its own were, or train a probe on shards such as these"
        )
