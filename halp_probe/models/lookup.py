"""Make a row for a family that is not in the table, from transformers' own lookups on a model without weights.

This is best effort: `get_decoder` and `get_encoder` find the parts of most families, but do not say how image tokens
attend or what else is special. So such a row is used only on request, and then checked on the first samples.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import transformers
from torch import nn

from halp_probe.errors import InputError
from halp_probe.models.families import FAMILIES
from halp_probe.models.families.defaults import MM_TOKEN_TYPES, PLAIN, RECURRENT
from halp_probe.models.families.unsupported import UNSUPPORTED
from halp_probe.models.family import Family, Notes, mrope_positions
from halp_probe.models.remote_code import own_auto_class
from halp_probe.models.vision_states import last_hidden_state

_BUILD_ERRORS = (AttributeError, ImportError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)
_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}


def family_for(
    config: Any, open_processor: Callable[[], Any], name: str, *, trust_lookup: bool, trusted: bool = False
) -> Family:
    """Return the table's row of the checkpoint `name`, or else, with `trust_lookup`, the row that the lookups find.

    The repository's own code runs only if it is `trusted`.

    Raises InputError, with what the lookups found and the row to add, if the model type is not in the table and the
    lookups are not trusted, or are not sufficient.
    """
    model_type = str(config.model_type)
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    reason = f": {UNSUPPORTED[model_type]}" if model_type in UNSUPPORTED else ""
    unknown = f"model_type {model_type!r} is not supported{reason} (supported: {', '.join(FAMILIES)})"
    try:
        found = look_up(config, open_processor, name, trusted=trusted)
    except InputError as error:
        raise InputError(
            f"{unknown}, and transformers' lookups do not find its parts: {error}. To add it: a row {model_type!r} in "
            "halp_probe/models/families/, and a tiny model in tests/tiny/ that proves it"
        ) from error
    if not trust_lookup:
        raise InputError(
            f"{unknown}. transformers' lookups find:\n{row_in_words(model_type, found)}\n"
            "To add it: that row in halp_probe/models/families/ and a tiny model in tests/tiny/ that proves it; or "
            "`trust_lookup`, to use it as it is"
        )
    return found


def look_up(config: Any, open_processor: Callable[[], Any], name: str, *, trusted: bool = False) -> Family:
    """Look up the parts of a model with this config. Raises InputError that names what is not found."""
    token = next((key for key in ("image_token_id", "image_token_index") if _is_id(getattr(config, key, None))), None)
    if token is None:
        raise InputError("its config has neither image_token_id nor image_token_index")
    auto_class = (own_auto_class(config) if trusted else None) or PLAIN.auto_class
    model = _without_weights(config, auto_class, trusted=trusted)
    decoder = _path(model, model.get_decoder(), "decoder")
    tower = model.get_encoder(modality="image")
    if tower is model:
        raise InputError("get_encoder(modality='image') finds no vision tower")
    blocks = getattr(model.get_submodule(decoder), "layers", None)
    if not isinstance(blocks, nn.ModuleList):
        raise InputError(f"its decoder {decoder} has no list of blocks named `layers`")
    owner = model if hasattr(model, "get_image_features") else getattr(model, "model", model)
    if not hasattr(owner, "get_image_features"):
        raise InputError("it has no get_image_features: its images do not enter as tokens")
    parameters = inspect.signature(owner.get_image_features).parameters
    outputs = _image_inputs(open_processor)
    mrope = hasattr(model.model, "get_rope_index")
    layer_types = set(getattr(config.get_text_config(), "layer_types", None) or ())
    return replace(
        PLAIN,
        notes=Notes(checkpoint=name, oddities="looked up, not proved"),
        vision_states=last_hidden_state,
        encoder=_path(model, tower, "vision tower"),
        decoder_blocks=f"{decoder}.layers",
        feed_forward=None,
        image_token_id=token,
        image_inputs=tuple(name for name in outputs if name in parameters),
        token_types=MM_TOKEN_TYPES if mrope else None,
        positions=mrope_positions if mrope else PLAIN.positions,
        position_axes=3 if mrope else 1,
        position_inputs=("image_grid_thw",) if mrope else (),
        unshared="" if layer_types <= _ATTENTION else RECURRENT,
        right_padding=layer_types <= _ATTENTION,
        auto_class=auto_class,
        looked_up=True,
    )


def row_in_words(model_type: str, family: Family) -> str:
    """Return the row as source code for the table."""
    fields = [
        f"vision_states={family.vision_states.__name__}",
        f"encoder={family.encoder!r}",
        f"decoder_blocks={family.decoder_blocks!r}",
        f"image_token_id={family.image_token_id!r}",
        f"image_inputs={family.image_inputs!r}",
    ]
    if family.position_axes == 3:
        fields.append("positions=mrope_positions, position_axes=3, position_inputs=('image_grid_thw',), …")
    lines = "".join(f"        {line},\n" for line in fields)
    return f'    "{model_type}": replace(\n        PLAIN,\n{lines}    ),'


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _without_weights(config: Any, auto_class: str, *, trusted: bool) -> Any:
    try:
        with torch.device("meta"):
            return getattr(transformers, auto_class).from_config(config, trust_remote_code=trusted)
    except _BUILD_ERRORS as error:
        raise InputError(f"it is not an {auto_class} ({str(error).splitlines()[0]})") from error


def _image_inputs(open_processor: Callable[[], Any]) -> list[str]:
    try:
        processor = open_processor()
    except (OSError, *_BUILD_ERRORS) as error:
        raise InputError(f"its processor cannot be loaded ({str(error).splitlines()[0]})") from error
    if not hasattr(processor, "image_processor"):
        raise InputError(f"its processor, {type(processor).__name__}, takes no images")
    return list(processor.image_processor.model_input_names)


def _path(model: nn.Module, part: nn.Module, what: str) -> str:
    found = next((path for path, module in model.named_modules() if module is part and path), None)
    if found is None:
        raise InputError(f"the lookups find no {what} inside it")
    return found
