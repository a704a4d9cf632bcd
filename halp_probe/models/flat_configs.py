"""Refuse a flat config.json whose keys for the language model transformers has dropped.

Older releases wrote the language model's settings at the top level of a vision-language model's config.json. Where the
config class does not move them into its text config, they are ignored, and the class's defaults stand in their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from transformers import PreTrainedConfig

from halp_probe.models.errors import ModelError

_ROPE = ("rope_theta", "rope_scaling", "partial_rotary_factor")  # all end up in `rope_parameters`
# Keys of the text config that the whole model may also have, for generation, training or tying.
_SHARED = {"initializer_range", "use_cache", "tie_word_embeddings", "vocab_size", "attention_dropout", "dtype"}
_SHOWN = 4


def check_flat_keys(config: Any, raw: Mapping[str, Any]) -> None:
    """Raise ModelError, naming key and values, for a top-level key of config.json that its text config lost.

    `raw` is config.json as it lies in the folder, `config` what transformers made of it. A key counts as lost if the
    text config's class knows it, the top level's does not, and the text config has another value than the class makes
    of the file's.
    """
    text = config.get_text_config()
    if text is config or not type(text).__module__.startswith("transformers."):
        return
    nested = raw.get(_name_of(config, text))
    nested = nested if isinstance(nested, Mapping) else {}
    flat = {key: raw[key] for key in _flat_keys(config, text, raw) if key not in nested and raw[key] is not None}
    if not flat:
        return
    wanted = type(text)(**deepcopy({**nested, **flat}))  # the class writes into the dictionaries it is given
    pairs = [(key, _loaded_instead(key, value, wanted, text)) for key, value in flat.items()]
    if lost := [f"{key} {flat[key]!r} ({loaded} loaded)" for key, loaded in pairs if loaded is not None]:
        raise ModelError(
            f"config.json has settings of the language model at its top level, where transformers does not read them "
            f"for {config.model_type!r}: {', '.join(lost[:_SHOWN])}{', …' if len(lost) > _SHOWN else ''}; move "
            f"{'it' if len(lost) == 1 else 'them'} into config.json's {_name_of(config, text)}"
        )


def _name_of(config: Any, text: Any) -> str:
    """Return the key of the text config in the config."""
    return next((name for name in type(config).sub_configs if getattr(config, name, None) is text), "text_config")


def _flat_keys(config: Any, text: Any, raw: Mapping[str, Any]) -> list[str]:
    """Return the top-level keys that are the text config's alone."""
    known = {*type(text).__dataclass_fields__, *type(text).attribute_map, *_ROPE}
    of_all = {*type(config).__dataclass_fields__, *type(config).attribute_map, *PreTrainedConfig.__dataclass_fields__}
    return [key for key in raw if key in known - of_all - _SHARED and not key.endswith(("_token_id", "_token_index"))]


def _loaded_instead(key: str, value: Any, wanted: Any, text: Any) -> str | None:
    """Return in words what the text config has in place of the file's value; None if it has just that."""
    if key not in _ROPE:
        loaded = getattr(text, key, None)
        return None if loaded == getattr(wanted, key, None) else f"{loaded!r}"
    given, loaded = wanted.rope_parameters or {}, text.rope_parameters or {}
    names = [name for name in value if name not in ("type", "rope_type")] if isinstance(value, Mapping) else [key]
    lost = [name for name in names if name in given and loaded.get(name) != given[name]]
    return ", ".join(f"{name} {loaded[name]!r}" if name in loaded else f"no {name}" for name in lost) or None
