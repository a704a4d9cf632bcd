"""Read a model's weights, and check that they are those of its files: none missing, none made up, none left over.

transformers initialises what it does not find at random and goes on; such a model's states mean nothing.
"""

from __future__ import annotations

import json
import logging
import re
import struct
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import nn
from transformers.utils import CONFIG_NAME
from transformers.utils.hub import cached_file

from halp_probe.json_files import read_json
from halp_probe.models.errors import LOAD_ERRORS, ModelError, one_line

if TYPE_CHECKING:
    from halp_probe.models.loading import Checkpoint

_INDEX = "model.safetensors.index.json"
_POINTER = b"version https://git-lfs"
_LONGEST_HEADER = 100_000_000  # bytes, the limit of safetensors itself
_EXPERT = re.compile(r"(.*\bexperts\.)(\d+)(\..*)")
_FIRST = 3  # as many names are told

logger = logging.getLogger(__name__)


def read_weights(checkpoint: Checkpoint, *, cache_dir: str | None, dtype: str, **options: Any) -> Any:
    """Load the base model with transformers; `dtype` "auto" is that of its files.

    Raises ModelError, also if a weight is not in the files, has another shape there, or has no place in the model.
    """
    local = Path(checkpoint.source).is_dir()
    where = {"cache_dir": cache_dir, "revision": None if local else checkpoint.revision}
    if local:
        check_files(Path(checkpoint.source))
    if checkpoint.model_type.endswith("_thinker"):  # not the configuration that the checkpoint has
        options["config"] = checkpoint.config
    try:
        with quiet_loading():
            model, info = getattr(transformers, checkpoint.family.auto_class).from_pretrained(
                checkpoint.source,
                **where,
                trust_remote_code=checkpoint.trusted,
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                **options,
            )
        folder = Path(cached_file(checkpoint.source, CONFIG_NAME, **where)).parent
    except LOAD_ERRORS as error:
        on = f" on {options['device_map']}" if options.get("device_map") else ""
        raise ModelError(f"cannot load model {checkpoint.name!r}{on}: {one_line(error)}") from error
    check_loading(model, info, checkpoint.name)
    check_head(model, check_files(folder), read_json(folder / CONFIG_NAME), checkpoint.name)
    return model


def weight_names(file: Path) -> frozenset[str]:
    """Read the names of a safetensors file's tensors from its header.

    Raises ModelError for a file that is not whole.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(len(_POINTER))
        if start == _POINTER:
            raise ModelError(f"{file} is a pointer of git-lfs, not the weights: run `git lfs pull` in its folder")
        length = struct.unpack("<Q", start[:8])[0] if size >= 8 else size
        if length > min(size - 8, _LONGEST_HEADER):
            raise ModelError(f"{file} is not a whole safetensors file; fetch or save it again")
        stream.seek(8)
        try:
            header = json.loads(stream.read(length))
            tensors = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
            end = max((offsets[1] for offsets in tensors.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{file} has no readable safetensors header; fetch or save it again") from error
    if 8 + length + end != size:
        raise ModelError(f"{file} has {size} bytes, its header tells of {8 + length + end}; fetch or save it again")
    return frozenset(tensors)


def check_files(folder: Path) -> frozenset[str] | None:
    """Return the names of all weights in a checkpoint's safetensors files; None if it has none.

    Raises ModelError for a file that is not whole, for an index that names a file or weight which is not there, and
    for a missing expert.
    """
    index = folder / _INDEX
    if index.is_file():
        names = _names_by_index(index)
    elif (single := folder / "model.safetensors").is_file():
        names = weight_names(single)
    else:
        return None
    _check_experts(names, folder)
    return names


def _names_by_index(index: Path) -> frozenset[str]:
    """Read the names of the weights in all files that an index names."""
    places: Mapping[str, str] = read_json(index).get("weight_map", {})
    shards = {shard: index.parent / shard for shard in sorted(set(places.values()))}
    for shard, path in shards.items():
        if not path.is_file():
            raise ModelError(f"{index} names {shard}, which is not there; fetch or save the checkpoint again")
    names = {shard: weight_names(path) for shard, path in shards.items()}
    absent = sorted(name for name, shard in places.items() if name not in names[shard])
    if absent:
        raise ModelError(
            f"{index} names {len(absent)} weights that its files lack ({_first(absent)}); fetch or save the checkpoint "
            "again"
        )
    return frozenset().union(*names.values())


def _check_experts(names: Collection[str], folder: Path) -> None:
    """Raise ModelError for a gap in experts that lie one by one in the files: transformers fails to stack them."""
    numbers: dict[tuple[str, str], set[int]] = defaultdict(set)
    for name in names:
        if found := _EXPERT.fullmatch(name):
            numbers[found[1], found[3]].add(int(found[2]))
    absent = [
        f"{before}{number}{behind}"
        for (before, behind), found in sorted(numbers.items())
        for number in sorted(set(range(max(found))) - found)
    ]
    if absent:
        raise ModelError(
            f"the files in {folder} lack {len(absent)} experts' weights ({_first(absent)}); fetch or save the "
            "checkpoint again"
        )


def check_loading(model: Any, info: Mapping[str, Collection[Any]], name: str) -> None:
    """Raise ModelError unless transformers' loading info says that all weights came from the files, and fit.

    Weights in the files that are left over are refused below any module of the model (the decoder, the vision tower,
    the projector, the head), blocks behind the last apart that the config counts as predicting further tokens; others,
    such as a value head or a tower of sound, are told in the log.
    """
    left_over = sorted(key for key in info["unexpected_keys"] if not _predicts_further_tokens(key, model))
    shapes = [f"{key}: {tuple(held)} for {tuple(wanted)}" for key, held, wanted in sorted(info["mismatched_keys"])]
    if info["missing_keys"] or shapes or _any_inside(left_over, model):
        faults = {
            "missing from the files": sorted(info["missing_keys"]),
            "of another shape": shapes,
            "without a place in the model": left_over,
        }
        told = "; ".join(f"{len(keys)} {what} ({_first(keys)})" for what, keys in faults.items() if keys)
        raise ModelError(
            f"the weights of {name} do not fit its config: {told}. Missing ones would be made up: take config.json and "
            "all weight files from one save of the whole model (merge an adapter first)"
        )
    if left_over:
        logger.warning("%s: %d weights in its files are not read (%s)", name, len(left_over), _first(left_over))


def check_head(model: Any, names: Collection[str] | None, settings: Mapping[str, Any], name: str) -> None:
    """Raise ModelError if the output embeddings would be the input's by a default alone.

    `names` are those of the weights in the files (None: unknown), `settings` the config.json. Where the files hold no
    head and the config says nothing, transformers' default for the family decides; a family whose language model is
    not tied by default has lost its head.
    """
    head = next((path for path, module in model.named_modules() if module is model.get_output_embeddings()), None)
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    if names is None or head is None or f"{head}.weight" not in tied:
        return
    last = head.rsplit(".", 1)[-1]
    text = model.config.get_text_config()
    if (
        not any(re.search(rf"(^|\.){re.escape(last)}\.weight$", key) for key in names)
        and not _names_tying(settings)
        and not getattr(type(text), "tie_word_embeddings", True)
    ):
        raise ModelError(
            f"the files of {name} hold no {head}.weight, and its config.json does not say that the input embeddings "
            "take its place; write tie_word_embeddings true into config.json if they do, else fetch the weights again"
        )


def _names_tying(settings: Mapping[str, Any]) -> bool:
    """Return whether a config says at any depth whether embeddings are tied."""
    parts = (part for part in settings.values() if isinstance(part, dict))
    return "tie_word_embeddings" in settings or any(map(_names_tying, parts))


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence transformers' own report on weights inside the context: the checks here say it in one line."""
    verbosity = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.utils.logging.set_verbosity(verbosity)


def _any_inside(keys: Collection[str], model: nn.Module) -> bool:
    """Return whether one of these weights lies below a module of the model, other than the model itself."""
    base = getattr(model, "base_model_prefix", "")
    modules = {name for name, _ in model.named_modules()} - {"", base}
    return any(key[:end] in modules for key in keys for end in _dots(key))


def _dots(key: str) -> list[int]:
    return [place for place, character in enumerate(key) if character == "."]


def _predicts_further_tokens(key: str, model: Any) -> bool:
    """Return whether a weight is of a block behind the decoder's last, which predicts further tokens (MTP)."""
    text = model.config.get_text_config()
    further = getattr(text, "num_nextn_predict_layers", None) or 0
    number = re.search(r"\.layers\.(\d+)\.", key)
    first = text.num_hidden_layers
    return number is not None and first <= int(number[1]) < first + further


def _first(names: Collection[str]) -> str:
    return ", ".join([*names][:_FIRST]) + (", …" if len(names) > _FIRST else "")
