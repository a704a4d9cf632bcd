"""Convert the original's LoRA adapter, of the bare language model, to one of a fused model, and back.

The weights stay the same; their names change, and so do PEFT's `target_modules`: a list of names would match the vision
tower of a fused model too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from halp_probe.fused.model import connector
from halp_probe.fused.original import (
    CONNECTOR_FILE,
    LORA_FOLDER,
    check_no_tiles,
    check_weight,
    read_tensors,
    save_connector,
)
from halp_probe.json_files import read_json, write_json
from halp_probe.models.adapters import CONFIG_FILE
from halp_probe.models.errors import ModelError, one_line
from halp_probe.models.naming import same_model

_WEIGHTS = "adapter_model.safetensors"
_ORIGINAL_PREFIX = "base_model.model.model."
_FUSED_PREFIX = f"{_ORIGINAL_PREFIX}language_model."
_CONNECTOR_PREFIX = f"{_ORIGINAL_PREFIX}multi_modal_projector."
_PROJECTION = re.compile(r"(layers\.\d+\.(?:self_attn|mlp)\.(\w+))\.(lora_[AB])\.weight")
_UNSUPPORTED = ("rank_pattern", "alpha_pattern", "layers_to_transform", "layer_replication", "arrow_config")


@dataclass(frozen=True, kw_only=True)
class _Lora:
    """An adapter's settings and weights, the latter by the module's path inside the decoder and lora_A or lora_B."""

    folder: Path
    config: Mapping[str, Any]
    weights: Mapping[tuple[str, str], torch.Tensor]
    names: tuple[str, ...]  # adapted projections, such as q_proj; the same in every layer
    others: Mapping[str, torch.Tensor]  # all other weights, by key


def adapter_from_original(folder: Path, model: Any, output: Path, *, base: str) -> None:
    """Write the `final_lora_model` in `folder` as an adapter of the fused `model`, whose name is `base`.

    Raises ModelError if it is not a LoRA of the model's language model, names another one, lacks weights, or holds
    others than those of a LoRA on its projections.
    """
    check_no_tiles(model)
    lora = _read(folder, model, _ORIGINAL_PREFIX)
    if lora.others:
        raise _unexpected_weights(folder, lora.others)
    trained_on, language = str(lora.config.get("base_model_name_or_path")), _language(model)
    if not same_model(trained_on, language):
        raise ModelError(
            f"{folder} was trained on {trained_on}, the language model is {language}; pass that one, or, where both "
            f"names mean the same weights, correct base_model_name_or_path in {folder / CONFIG_FILE}"
        )
    targets = rf"(.*\.)?language_model\.layers\.\d+\.(self_attn|mlp)\.({'|'.join(lora.names)})"
    _write(output, lora, _FUSED_PREFIX, base_model_name_or_path=base, target_modules=targets)


def write_original(model: Any, folder: Path, *, adapter: Path | None = None) -> None:
    """Write the fused `model`, and its adapter, as the original's files; `folder` must exist.

    A connector that was trained with the adapter (PEFT's `modules_to_save`) is written instead of the model's.
    """
    check_no_tiles(model)
    trained: Mapping[str, torch.Tensor] = dict(connector(model).named_parameters())
    if adapter is not None:
        lora = _read(adapter, model, _FUSED_PREFIX)
        trained_connector = {
            key.removeprefix(_CONNECTOR_PREFIX): weight
            for key, weight in lora.others.items()
            if _CONNECTOR_PREFIX in key
        }
        if len(trained_connector) < len(lora.others) or (
            trained_connector and trained_connector.keys() != trained.keys()
        ):
            raise _unexpected_weights(adapter, lora.others)
        for key, weight in trained_connector.items():
            check_weight(weight, trained[key].shape, f"{key} in {adapter}")
        trained = trained_connector or trained
        _write(
            folder / LORA_FOLDER,
            lora,
            _ORIGINAL_PREFIX,
            base_model_name_or_path=_language(model),
            target_modules=list(lora.names),
            task_type="CAUSAL_LM",
        )
    save_connector(trained, folder / CONNECTOR_FILE)


def _read(folder: Path, model: Any, prefix: str) -> _Lora:
    """Read the adapter in `folder`, whose keys begin with `prefix`, and check it against the language model."""
    config = _config(folder)
    weights: dict[tuple[str, str], torch.Tensor] = {}
    names, others = set(), {}
    for key, weight in _weights(folder).items():
        found = _PROJECTION.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
        if found is None:
            others[key] = weight
        else:
            weights[found[1], found[3]] = weight
            names.add(found[2])
    if not weights:
        raise ModelError(
            f"{folder} holds no LoRA weights whose keys begin with {prefix}layers.; save the adapter again"
        )
    if isinstance(targets := config.get("target_modules"), list):
        names |= set(targets)
    decoder = model.model.language_model
    expected = {
        (path, half): shape
        for path, module in decoder.named_modules()
        if isinstance(module, nn.Linear) and path.rsplit(".", 1)[-1] in names
        for half, shape in _shapes(module, int(config["r"])).items()
    }
    if wrong := sorted(weights.keys() ^ expected.keys()):
        path, half = wrong[0]
        lacks = "lacks" if wrong[0] in expected else "holds"
        raise ModelError(
            f"{folder} {lacks} {path}.{half}: {len(wrong)} of its weights are not those of a LoRA on "
            f"{', '.join(sorted(names))} of the {len(decoder.layers)} layers of {_language(model)}; pass the language "
            "model that it was trained on"
        )
    for (path, half), shape in expected.items():
        check_weight(weights[path, half], shape, f"{path}.{half} in {folder}")
    return _Lora(folder=folder, config=config, weights=weights, names=tuple(sorted(names)), others=others)


def _shapes(module: nn.Linear, rank: int) -> dict[str, torch.Size]:
    return {
        "lora_A": torch.Size([rank, module.in_features]),
        "lora_B": torch.Size([module.out_features, rank]),
    }


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        config = dict(read_json(path))
        kind, _ = config["peft_type"], int(config["r"])
    except (ValueError, KeyError, TypeError) as error:  # InputError is a ValueError
        raise ModelError(
            f"{path} is not a configuration of a LoRA ({one_line(error)}); pass the adapter's folder"
        ) from error
    unsupported = [setting for setting in _UNSUPPORTED if config.get(setting)]
    if kind != "LORA" or unsupported:
        raise ModelError(
            f"{path}: {', '.join(unsupported) or kind} is not supported: the original's adapter does not have it"
        )
    return config


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    if not (folder / _WEIGHTS).is_file():
        return read_tensors(folder / "adapter_model.bin")
    try:
        return load_file(folder / _WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / _WEIGHTS} cannot be read: {one_line(error)}") from error


def _write(output: Path, lora: _Lora, prefix: str, **changed: Any) -> None:
    output.mkdir(parents=True, exist_ok=True)
    config = {**lora.config, "modules_to_save": None, "auto_mapping": None, "revision": None, **changed}
    write_json(output / CONFIG_FILE, dict(sorted(config.items())))
    tensors = {f"{prefix}{path}.{half}.weight": weight for (path, half), weight in lora.weights.items()}
    save_file(tensors, output / _WEIGHTS, metadata={"format": "pt"})


def _language(model: Any) -> str:
    name = str(model.config.text_config._name_or_path)
    if not name:
        raise ModelError("the model's config does not name its language model: write it into text_config._name_or_path")
    return name


def _unexpected_weights(folder: Path, others: Mapping[str, torch.Tensor]) -> ModelError:
    return ModelError(
        f"{folder} holds {len(others)} weights that are not part of a LoRA on the language model's projections (first: "
        f"{min(others)}); the original's adapter has no others"
    )
