"""Whether a saved probe may read a model's states: it was fitted on those of one model, one prompt and one place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from halp_probe.engine.prompting import PROMPT_OF_TEXT
from halp_probe.errors import InputError
from halp_probe.models.loading import Checkpoint, LoadedModel
from halp_probe.probes.files import SavedProbe
from halp_probe.records import VISION_ENCODER
from halp_probe.shards.names import PROMPT_SETTINGS, is_representation, layer_of

_FLAGS = {"adapters": "adapter", "quantization": "quantization"}  # what a card says of the loading -> the flag
LOADED_WITH = tuple(_FLAGS)
_MADE_BY = tuple(name for name in PROMPT_SETTINGS if name != "chat_template_sha256")


def check_fits(probe: SavedProbe, loaded: LoadedModel, *, allow_other_model: bool = False) -> None:
    """Raise InputError, naming both sides, when the probe was not fitted on such states of this model.

    `allow_other_model` lets another model, revision or prompt pass; never another width or a layer that is not there.
    """
    card, checkpoint = probe.metadata, loaded.checkpoint
    representation = str(card.get("representation"))
    if not is_representation(representation):
        raise InputError(f"the probe's card names {representation!r}, which is no representation; train it again")
    if not allow_other_model:
        _check_model(card, checkpoint)
        _check_loading(card, loaded)
        _check_prompt(card, checkpoint)
    layer = layer_of(representation)
    if layer is not None and layer >= loaded.num_layers:
        raise InputError(
            f"the probe reads layer {layer}, {checkpoint.name} has layers 0 to {loaded.num_layers - 1}: pass the model "
            "that it was trained on"
        )
    width = int(checkpoint.config.get_text_config().hidden_size)
    if representation != VISION_ENCODER and probe.width != width:
        raise InputError(
            f"the probe reads vectors of width {probe.width}, those of {checkpoint.name} have {width}: pass the model "
            "that it was trained on"
        )


def check_same_states(card: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    """Raise InputError when shards with these attributes hold states of another model or prompt than the probe reads.

    What either does not tell is not compared.
    """
    for name in ("config_model_type", "revision", "prompt", "chat_template_sha256", "min_pixels", "max_pixels"):
        trained, here = card.get(name), attributes.get(name)
        if trained is not None and here is not None and trained != here:
            raise InputError(
                f"the probe was trained on other states: {name} is {trained} in its card and {here} in these shards of "
                f"{attributes.get('model_name')}; pass shards of {card.get('model_name')} as it was then"
            )
    if card.get("revision") is None or attributes.get("revision") is None:
        return
    for name in (*LOADED_WITH, "intervention", "family_looked_up", "system_prompt"):
        trained, here = card.get(name), attributes.get(name)
        if trained != here:
            raise InputError(
                f"the probe was trained on other states: {name} {trained or 'none'} in its card, {here or 'none'} in "
                "these shards; pass shards that were captured as its own were"
            )


def check_shows(card: Mapping[str, Any], *, images: bool) -> None:
    """Raise InputError when the probe's prompts showed images and these do not, or the other way round."""
    text_only = card.get("prompt") == PROMPT_OF_TEXT
    if text_only and images:
        raise InputError("the probe reads states of prompts without an image, this one shows one: pass no image")
    if not text_only and not images:
        raise InputError("the probe reads states of prompts that show an image, this one shows none: pass one")


def check_same_prompts(cards: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise InputError, naming the difference, when probes were trained on prompts that were made in several ways.

    Whether the template is the model's own is for `check_fits` to say.
    """
    named = iter(cards.items())
    first, card = next(named, ("", {}))
    for name, other in named:
        differing = [
            f"{key} {card.get(key)!r} and {other.get(key)!r}" for key in _MADE_BY if card.get(key) != other.get(key)
        ]
        if differing:
            raise InputError(
                f"the probes {first!r} and {name!r} were trained on prompts that were made in two ways "
                f"({'; '.join(differing)}): take probes of one extraction"
            )


def layer_to_read(representation: str) -> int:
    """The layer to capture for it; for the vision means, which need none, the first."""
    return layer_of(representation) or 0


def trained_revision(card: Mapping[str, Any], model: str) -> str | None:
    """The hub's commit that the probe was trained on, when this is its model; None for a folder or another model."""
    revision = card.get("revision")
    same = model == card.get("model_name") and revision is not None and not revision.startswith("local-")
    return str(revision) if same else None


def trained_adapters(card: Mapping[str, Any]) -> list[str]:
    """The names of the adapters, in order, that the model had whose states the probe was trained on."""
    names: list[str] = json.loads(card.get("adapter_names") or "[]")
    return names


def _check_model(card: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """The revision is a commit or a fingerprint of the content, so a moved folder passes."""
    trained = {name: card.get(name) for name in ("revision", "config_model_type")}
    here = {"revision": checkpoint.revision, "config_model_type": checkpoint.model_type}
    if any(value is None for value in trained.values()):
        raise InputError(
            f"the probe's card does not tell the model whose states it reads ({card.get('model_name')}, revision "
            f"{trained['revision']}); train it again on shards of this halp_probe, or allow another model"
        )
    if trained != here:
        raise InputError(
            f"the probe was trained on {card.get('model_name')} ({trained['config_model_type']}, revision "
            f"{trained['revision']}), the model is {checkpoint.name} ({checkpoint.model_type}, revision "
            f"{checkpoint.revision}): pass that model, train a probe on this one, or allow another model"
        )


def _check_loading(card: Mapping[str, Any], loaded: LoadedModel) -> None:
    """Adapters by the content of their files and by their order; a card that says nothing was of none."""
    if card.get("intervention"):
        raise InputError(
            f"the probe was trained on states under an intervention ({card['intervention']}), which this model is not "
            "under: train it on plain shards, or allow another model"
        )
    here = {"adapters": loaded.checkpoint.stack, "quantization": loaded.quantization}
    if bool(card.get("family_looked_up")) != loaded.checkpoint.family.looked_up:
        raise InputError(
            f"one of the probe's states and {loaded.checkpoint.name} was read as transformers' lookups say "
            "(--trust-lookup), the other as the table of families says: train a probe on states read as these are, or "
            "allow another model"
        )
    for name in LOADED_WITH:
        if card.get(name) != here[name]:
            which = f" ({', '.join(trained_adapters(card))})" if name == "adapters" and card.get(name) else ""
            raise InputError(
                f"the probe was trained on {loaded.checkpoint.name} with {name} {card.get(name) or 'none'}{which}, the "
                f"model is loaded with {name} {here[name] or 'none'}: load it as for the probe (--{_FLAGS[name]}), "
                "train a probe on this one, or allow another model"
            )


def _check_prompt(card: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    template = hashlib.sha256(str(checkpoint.processor.chat_template).encode()).hexdigest()
    if card.get("chat_template_sha256") != template:
        raise InputError(
            f"the probe was trained with another chat template than that of {checkpoint.name} (sha256 "
            f"{str(card.get('chat_template_sha256'))[:12]} there, {template[:12]} here), so its states are of other "
            "prompts; use that template, train the probe again, or allow another model"
        )
