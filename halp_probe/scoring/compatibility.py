"""Checks that a saved probe may read a model's states.

It was fitted on those of one model, one prompt and one place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from halp_probe.engine.identity import add_prompts, identity_of_model
from halp_probe.engine.prompting import Prompter
from halp_probe.errors import InputError
from halp_probe.models.loading import LoadedModel
from halp_probe.probes.files import SavedProbe
from halp_probe.probes.fusion.names import NUMBERS
from halp_probe.records import POSITIONS, USUAL_POSITIONS, VISION_ENCODER
from halp_probe.shards.names import is_representation, layer_of
from halp_probe.state_identity import (
    PROBE_ON_MODEL,
    PROBE_ON_OTHER_MODEL,
    PROBES_TOGETHER,
    UNKNOWN,
    Difference,
    StateIdentity,
)

# What to do about a difference, by its field; about others, to train a probe on states such as these.
_REMEDIES = {
    "config_model_type": "pass the model that it was trained on",
    "revision": "pass the model that it was trained on",
    "adapters": "load it as for the probe (`adapter`)",
    "quantization": "load it as for the probe (`quantization`)",
    "intervention": "train the probe on plain shards",
    "family_looked_up": "read its family as for the probe (with `trust_lookup`, or as the table of families says)",
    "chat_template_sha256": "use the chat template that it was trained with",
}


def check_fits(probe: SavedProbe, loaded: LoadedModel, *, allow_other_model: bool = False) -> None:
    """Raise InputError, naming both sides, when the probe was not fitted on such states of this model.

    `allow_other_model` lets another model, revision or chat template pass; never another width, a layer that is not
    there, or a prompt that is laid out otherwise.
    """
    card, checkpoint = probe.metadata, loaded.checkpoint
    if own := [name for name in probe.inputs if not is_representation(name) and name not in NUMBERS]:
        raise InputError(
            f"the probe's card names {own[0]!r}, which is not a representation; where that is a feature of your own, "
            "give the probe its array: `load_probe(…).risk(array)`"
        )
    check = PROBE_ON_OTHER_MODEL if allow_other_model else PROBE_ON_MODEL
    trained, here = StateIdentity.of_card(card), identity_of_model(loaded)
    _refuse(trained.differences(here, check), probe, loaded)
    _check_shapes(probe, loaded)
    prompter = Prompter.for_identity(checkpoint, trained)
    rebuilt = add_prompts(here, prompter, shows_images=trained.shows_images)
    _refuse(trained.differences(rebuilt, check), probe, loaded)


def _check_shapes(probe: SavedProbe, loaded: LoadedModel) -> None:
    """Raise InputError for a layer that the model does not have, and for states of another width."""
    checkpoint = loaded.checkpoint
    decoder_width = int(checkpoint.config.get_text_config().hidden_size)
    for name, width in probe.widths.items():
        layer = layer_of(name)
        if layer is not None and layer >= loaded.num_layers:
            raise InputError(
                f"the probe reads layer {layer}, {checkpoint.name} has layers 0 to {loaded.num_layers - 1}: pass the "
                "model that it was trained on"
            )
        if name not in (VISION_ENCODER, *NUMBERS) and width != decoder_width:
            raise InputError(
                f"the probe reads vectors of width {width}, those of {checkpoint.name} have {decoder_width}: pass the "
                "model that it was trained on"
            )


def check_shows(card: Mapping[str, Any], *, images: bool) -> None:
    """Raise InputError when the probe's prompts showed images and these do not, or the other way round."""
    trained_with_images = StateIdentity.of_card(card).shows_images
    if images and not trained_with_images:
        raise InputError("the probe reads states of prompts without an image, this one shows one: pass no image")
    if trained_with_images and not images:
        raise InputError("the probe reads states of prompts that show an image, this one shows none: pass one")


def check_same_prompts(cards: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise InputError, naming the difference, when probes were trained on prompts that were made in several ways.

    `check_fits` compares model and template with those of the loaded model.
    """
    identities = {name: StateIdentity.of_card(card) for name, card in cards.items()}
    named = iter(identities.items())
    first, identity = next(named, ("", StateIdentity()))
    for name, other in named:
        if differences := identity.differences(other, PROBES_TOGETHER):
            raise InputError(
                f"the probes {first!r} and {name!r} were trained on prompts that were made in different ways "
                f"({'; '.join(each.between('for one', 'for the other') for each in differences)}): take probes of one "
                "extraction"
            )


def layers_to_read(probe: SavedProbe) -> tuple[int, ...]:
    """Return the layers to capture for what a probe reads; for the vision means, which need none, the first."""
    layers = {layer for name in probe.inputs if (layer := layer_of(name)) is not None}
    return tuple(sorted(layers)) or (0,)


def positions_to_read(representations: Iterable[str]) -> tuple[str, ...]:
    """Return the positions to capture for these representations: the usual ones, and those that they need besides."""
    read = {name.split("/")[0] for name in representations}
    return tuple(name for name, position in POSITIONS.items() if name in USUAL_POSITIONS or position in read)


def trained_revision(card: Mapping[str, Any], model: str) -> str | None:
    """Return the hub's commit that the probe was trained on, when this is its model.

    None for a folder or another model.
    """
    revision = card.get("revision")
    same = model == card.get("model_name") and revision is not None and not revision.startswith("local-")
    return str(revision) if same else None


def trained_adapters(card: Mapping[str, Any]) -> list[str]:
    """Return the names, in order, of the adapters on the model that the probe was trained on."""
    names: list[str] = json.loads(card.get("adapter_names") or "[]")
    return names


def _refuse(differences: tuple[Difference, ...], probe: SavedProbe, loaded: LoadedModel) -> None:
    """Raise InputError for differences between what the probe was trained on and what the model gives."""
    if not differences:
        return
    card, name = probe.metadata, loaded.checkpoint.name
    adapters = ", ".join(trained_adapters(card))
    trained_on = f"{card.get('model_name')}{f' with adapters {adapters}' if adapters else ''}"
    remedy = _REMEDIES.get(differences[0].name, "make its prompts as they were made then")
    if differences[0].one is UNKNOWN:
        remedy = "train it again on shards that record it"
    allowed = all(each.name in PROBE_ON_OTHER_MODEL.may_differ for each in differences)
    raise InputError(
        f"the probe was trained on states of {trained_on}, the model is {name}: "
        f"{'; '.join(each.between('in the card', 'here') for each in differences)}. {remedy[0].upper()}{remedy[1:]}, "
        f"or train a probe on states such as these{' (or allow another model)' if allowed else ''}"
    )
