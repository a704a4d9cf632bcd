"""Open PEFT adapters, check that they were trained on the model at hand, and put a stack of them on it.

A stack is in training order: adapter k was trained on the base with the adapters 1 … k-1 merged in. So all but the last
are merged into the weights, in the model's dtype (in bfloat16 that rounds them, as a saved bfloat16 merge does), and
the last one stays unmerged. `modules_to_save` are replaced in that order, so the later adapter wins.

A tokenizer, chat template or processor in an adapter's folder replaces the model's; see `adapter_prompts`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halp_probe.json_files import read_json, write_json
from halp_probe.models.adapter_names import modern_folder
from halp_probe.models.adapter_prompts import FILES, fit_vocabulary
from halp_probe.models.errors import ModelError, one_line
from halp_probe.models.fingerprints import folder_fingerprint
from halp_probe.models.naming import parse_name, same_model, same_name_only
from halp_probe.models.quantization import quiet_bitsandbytes

CONFIG_FILE = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
TRAINED_ON = "trained_on.json"  # in the folder of an adapter that `halp-probe train-vlm` wrote
MERGE_RECORD = "merged_from.json"  # in the folder of a checkpoint that `halp-probe merge` wrote
# Kinds that change only modules of the model; others act in PEFT's own forward, which is not run here.
KINDS = ("LORA", "ADALORA", "IA3", "LOHA", "LOKR", "VERA", "OFT", "BOFT", "LN_TUNING", "TRAINABLE_TOKENS")
_ROUTED = ("alora_invocation_tokens", "arrow_config", "layer_replication")  # settings of LoRA that act there
_NAME = "default"  # PEFT's own name, part of the model's parameter names
# Settings that do not change states: where the base lies, and what saving the adapter again may change.
_NOT_OF_STATES = ("base_model_name_or_path", "revision", "inference_mode", "peft_version")


logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter on this machine."""

    name: str  # as the user gave it: a folder or a hub name
    folder: Path
    identity: str  # a fingerprint of its weights and of the settings that change states
    base: str  # the model that it was trained on, by its own configuration
    base_revision: str | None  # of a hub model, if the configuration names it
    base_fingerprint: str | None  # of the base's folder, if the adapter's folder tells it
    peft_type: str


def open_adapter(name: str, *, cache_dir: str | None = None) -> Adapter:
    """Open an adapter. Raises ModelError if it is not a PEFT adapter, or of an unsupported kind."""
    folder = _folder(name, cache_dir)
    try:
        config = read_json(folder / CONFIG_FILE)
        peft_type, base = str(config["peft_type"]), config["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError) as error:  # InputError is a ValueError
        raise ModelError(
            f"`adapter` {name}: it has no readable {CONFIG_FILE} of PEFT ({one_line(error)}); pass the folder that "
            "save_pretrained wrote"
        ) from error
    if peft_type not in KINDS or any(config.get(setting) for setting in _ROUTED):
        what = next((setting for setting in _ROUTED if config.get(setting)), peft_type)
        raise ModelError(
            f"`adapter` {name}: {what} acts outside of the model's own modules, or is untested; supported "
            f"are {', '.join(KINDS)}, without {', '.join(_ROUTED)}"
        )
    if not base:
        raise ModelError(
            f"`adapter` {name}: its {CONFIG_FILE} names no base model; write the one that it was trained on into "
            "base_model_name_or_path"
        )
    if not any((folder / file).is_file() for file in _WEIGHTS):
        raise ModelError(f"`adapter` {name}: {folder} holds no {_WEIGHTS[0]}; save the trained adapter again")
    named = parse_name(str(base))
    return Adapter(
        name=name,
        folder=folder,
        identity=_identity(folder, config),
        base=named.name,
        base_revision=config.get("revision") or named.revision,
        base_fingerprint=_read_fingerprint(folder),
        peft_type=peft_type,
    )


def check_no_adapter_inside(name: str, source: str, commit: str | None, cache_dir: str | None) -> None:
    """Raise ModelError for a model with an adapter among its files.

    If PEFT is installed, transformers silently puts that adapter on the model; otherwise it silently leaves it out.
    """
    from transformers.utils import find_adapter_config_file

    if find_adapter_config_file(source, cache_dir=cache_dir, revision=commit) is not None:
        raise ModelError(
            f"{name} holds a PEFT adapter ({CONFIG_FILE}): pass it as `adapter` {name}; where the model's own weights "
            "lie beside it, move the adapter's files into a folder of their own"
        )


def check_bases(adapters: Sequence[Adapter], model: str, revision: str) -> None:
    """Raise ModelError, naming both, for an adapter that was trained on another model than this one at `revision`.

    A later adapter of a stack may also name the checkpoint that `halp-probe merge` made of this model and of exactly
    the adapters before it, if that folder is on this machine.
    """
    for k, adapter in enumerate(adapters):
        before = [other.identity for other in adapters[:k]]
        if not same_model(adapter.base, model) and not (
            before and _read_merge_record(adapter.base) == (revision, before)
        ):
            later = f" (or a merge of it and {', '.join(a.name for a in adapters[:k])})" if k else ""
            raise ModelError(
                f"`adapter` {adapter.name} was trained on {adapter.base}, the model is {model}{later}: pass `model` "
                f"{adapter.base}; or, where both names mean the same weights, correct base_model_name_or_path in "
                f"{adapter.folder / CONFIG_FILE}"
            )
        _check_fingerprint(adapter, model, revision)


def _check_fingerprint(adapter: Adapter, model: str, revision: str) -> None:
    """Raise ModelError if the base has another fingerprint than the adapter tells; log where names alone agree."""
    told = adapter.base_fingerprint
    if told is not None and revision.startswith("local-") and same_name_only(adapter.base, model) and told != revision:
        raise ModelError(
            f"`adapter` {adapter.name} was trained on {adapter.base} ({told}), the model {model} has the same name but "
            f"other files ({revision}): pass the folder that it was trained on"
        )
    if told is None and same_name_only(adapter.base, model):
        logger.warning(
            "adapter %s was trained on %s, which is not here: that %s is the same model is taken from its name alone",
            adapter.name,
            adapter.base,
            model,
        )


def attach(model: Any, adapter: Adapter) -> Any:
    """Wrap `model` in a PeftModel in eval mode; the modules of `model` then carry the adapter.

    Raises ModelError if the adapter's weights do not fit the model: other shapes, weights of modules that it does not
    have, or modules without weights. PEFT itself ignores the last two.
    """
    from safetensors import SafetensorError

    peft = peft_library()
    try:
        with modern_folder(model, adapter.folder, peft) as folder:
            config = peft.PeftConfig.from_pretrained(str(folder))
            config.inference_mode = True
            fit_vocabulary(model, adapter, _shapes(folder, peft))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # PEFT uses an attribute that transformers will drop
                wrapped = peft.PeftModel(model, config, _NAME)
            result = wrapped.load_adapter(str(folder), _NAME, torch_device=str(model.device))
    except ModelError:
        raise
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"`adapter` {adapter.name}: its weights cannot be read ({one_line(error)}); save or fetch it again"
        ) from error
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"`adapter` {adapter.name} does not fit the model: {one_line(error)}; pass the model that it was trained on"
        ) from error
    for keys, what in (
        (result.unexpected_keys, "weights belong to no module of the model"),
        (result.missing_keys, "of its modules have no weights in its file"),
    ):
        if keys:
            raise ModelError(
                f"`adapter` {adapter.name} does not fit the model: {len(keys)} {what} (first: {keys[0]}); pass the "
                "model that it was trained on"
            )
    return wrapped.eval()


def _shapes(folder: Path, peft: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in peft.load_peft_weights(str(folder), device="cpu").items()}


def merge(wrapped: Any, adapter: Adapter) -> Any:
    """Merge the adapter of an `attach`ed model into its weights. Raises ModelError if the sum is not finite."""
    try:
        return wrapped.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"`adapter` {adapter.name} cannot be merged: {one_line(error)}") from error


def apply_adapters(model: Any, adapters: Sequence[Adapter]) -> Any:
    """Put a stack of adapters on the model, as the module's docstring says; its module paths stay the same."""
    for k, adapter in enumerate(adapters):
        wrapped = attach(model, adapter)
        model = wrapped.get_base_model() if k == len(adapters) - 1 else merge(wrapped, adapter)
    return model


def write_trained_on(folder: Path, revision: str) -> None:
    """Write the fingerprint of the folder that an adapter was trained on into the adapter's folder."""
    write_json(folder / TRAINED_ON, {"base_fingerprint": revision})


def _read_fingerprint(folder: Path) -> str | None:
    if not (folder / TRAINED_ON).is_file():
        return None
    try:
        return str(read_json(folder / TRAINED_ON)["base_fingerprint"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder / TRAINED_ON} is not what was written there ({one_line(error)}); delete it"
        ) from error


def write_merge_record(folder: Path, model: str, revision: str, adapters: Sequence[Adapter]) -> None:
    """Write a record of what a merged checkpoint was made of into its folder."""
    made_of = [{"name": adapter.name, "identity": adapter.identity} for adapter in adapters]
    record = {"base_model": model, "base_revision": revision, "adapters": made_of}
    write_json(folder / MERGE_RECORD, record)


def _identity(folder: Path, config: Mapping[str, Any]) -> str:
    """Return a fingerprint that survives another save by PEFT: sets in any order, new settings null."""
    settings = {
        name: sorted(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else value
        for name, value in config.items()
        if name not in _NOT_OF_STATES and value is not None
    }
    text = json.dumps(settings, sort_keys=True) + folder_fingerprint(folder, _WEIGHTS)
    return f"adapter-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _read_merge_record(folder: str) -> tuple[str, list[str]] | None:
    """Read revision and adapters' identities from a folder's merge record; None if there is none."""
    path = Path(folder) / MERGE_RECORD
    if not path.is_file():
        return None
    try:
        record = read_json(path)
        return str(record["base_revision"]), [str(adapter["identity"]) for adapter in record["adapters"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is not a record of halp-probe merge ({one_line(error)}); merge again") from error


def _folder(name: str, cache_dir: str | None) -> Path:
    """Return the adapter's folder, after a download for a hub name."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(name, cache_dir=cache_dir, allow_patterns=[CONFIG_FILE, TRAINED_ON, *_WEIGHTS, *FILES])
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"`adapter` {name} is not a local folder and cannot be downloaded ({one_line(error)}); pass the folder of "
            f"a trained adapter, which holds {CONFIG_FILE}"
        ) from error


def peft_library() -> Any:
    """Import PEFT. Raises ModelError if it is not installed."""
    quiet_bitsandbytes()  # PEFT imports it
    try:
        import peft
    except ImportError as error:
        raise ModelError(f"adapters need PEFT ({error}): pip install 'halp_probe[adapters]'") from error
    return peft
