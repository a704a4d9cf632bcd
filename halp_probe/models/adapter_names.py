"""Bring an adapter that was saved under a model's earlier module names to its names of today.

transformers 4.52 moved the parts of vision-language models (`model.layers` became `model.language_model.layers`);
adapters of before, and those of tools that patch such a version, name the old places. transformers' own renaming of
weights, which it applies to whole checkpoints, says where each module is now.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key

_PREFIX = "base_model.model."  # of PEFT's own wrapper
_PATTERNS = ("rank_pattern", "alpha_pattern")  # settings by a pattern of module names

Rename = Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Place of an adapter's weight, before and now."""

    old: str  # module, as the file names it
    new: str  # module of the model
    rest: str  # what follows the module in the weight's name


@contextmanager
def modern_folder(model: Any, folder: Path, peft: Any) -> Iterator[Path]:
    """Yield the folder of an adapter whose names are the model's: `folder` itself, or a converted copy.

    Modules that neither the old names nor the new ones lead to stay as they are, for PEFT to refuse.
    """
    rename, modules = _renaming(model), frozenset(name for name, _ in model.named_modules())
    weights = peft.load_peft_weights(str(folder), device="cpu")
    found = {key: _place(key, modules, rename) for key in weights}
    places = {key: place for key, place in found.items() if place is not None}
    if all(place.old == place.new for place in places.values()):
        yield folder
        return
    config = peft.PeftConfig.from_pretrained(str(folder))
    _convert_settings(config, places.values(), modules, rename)
    with tempfile.TemporaryDirectory() as converted:
        config.save_pretrained(converted)
        named = {
            f"{_PREFIX}{places[key].new}{places[key].rest}" if key in places else key: weight
            for key, weight in weights.items()
        }
        _save(named, Path(converted))
        yield Path(converted)


def _save(weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "adapter_model.safetensors")


def _renaming(model: Any) -> Rename:
    """Return the function from a module's earlier name to its name in the model; others stay as they are."""
    renamings = [step for step in get_model_conversion_mapping(model) if isinstance(step, WeightRenaming)]
    known = model.state_dict()

    def rename(module: str) -> str:
        renamed, _ = rename_source_key(f"{module}.weight", renamings, [], model.base_model_prefix, known)
        return renamed.removesuffix(".weight")

    return rename


def _place(key: str, modules: frozenset[str], rename: Rename) -> _Place | None:
    """Return the place of a weight; None if neither its name nor what that became leads to a module."""
    parts = key.removeprefix(_PREFIX).split(".")
    for end in range(len(parts) - 1, 0, -1):
        old, rest = ".".join(parts[:end]), "".join(f".{part}" for part in parts[end:])
        new = old if old in modules else rename(old)
        if new in modules:
            return _Place(old=old, new=new, rest=rest)
    return None


def _convert_settings(config: Any, places: Collection[_Place], modules: frozenset[str], rename: Rename) -> None:
    """Let the settings name the modules that have weights in the file, where a pattern or a path named them before."""
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
    from peft.utils.other import get_pattern_key

    own = f".{PEFT_TYPE_TO_PREFIX_MAPPING[config.peft_type]}"  # of the tuner; others replace a module's weights
    tuned = {place.old: place.new for place in places if place.rest.startswith(own)}
    if getattr(config, "exclude_modules", None):
        config.exclude_modules = None
    for setting in _PATTERNS:
        values = getattr(config, setting, None) or {}
        found = {new: get_pattern_key([*values], old) for old, new in tuned.items()}
        if values:
            setattr(config, setting, {new: values[key] for new, key in found.items() if key in values})

    def is_known(name: str) -> bool:
        return any(module == name or module.endswith(f".{name}") for module in modules)

    def today(name: str) -> str:
        return name if is_known(name) else rename(name)

    if isinstance(config.target_modules, str) or not all(map(is_known, config.target_modules)):
        config.target_modules = sorted(set(tuned.values()))
    if getattr(config, "modules_to_save", None):
        config.modules_to_save = [today(name) for name in config.modules_to_save]
    if isinstance(getattr(config, "trainable_token_indices", None), dict):
        config.trainable_token_indices = {today(name): rows for name, rows in config.trainable_token_indices.items()}
