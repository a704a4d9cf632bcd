"""Open a VLM checkpoint by hub name or folder, and load its weights; `shapes` is the bundled one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoProcessor

from halp_probe.errors import InputError
from halp_probe.models.adapter_prompts import check_vocabulary, use_adapter_files
from halp_probe.models.adapters import Adapter, apply_adapters, check_bases, check_no_adapter_inside, open_adapter
from halp_probe.models.checkpoint_files import CheckpointFiles
from halp_probe.models.compat import complete_outputs, hub_commit, ties_last_hidden_states
from halp_probe.models.cpu_memory import keep_freed_memory
from halp_probe.models.errors import LOAD_ERRORS
from halp_probe.models.errors import ModelError as ModelError
from halp_probe.models.family import Family
from halp_probe.models.fingerprints import local_revision
from halp_probe.models.flat_configs import check_flat_keys
from halp_probe.models.hub_cache import locate
from halp_probe.models.lookup import family_for
from halp_probe.models.naming import BUNDLED, BUNDLED_FOLDER, ModelName, parse_name
from halp_probe.models.patch_projection import flatten_patch_projection
from halp_probe.models.processors import open_processor
from halp_probe.models.quantization import bitsandbytes_config, check_runs
from halp_probe.models.remote_code import check_code, check_own_class, check_own_code
from halp_probe.models.templates import TEMPLATE_FILE
from halp_probe.models.vision_attention import pack_vision_attention
from halp_probe.models.whole_weights import read_weights


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """All of a model except its weights: enough to make prompts."""

    name: str
    source: str  # the name for from_pretrained
    revision: str  # the hub's commit, or a fingerprint of the local folder
    config: Any
    processor: Any
    family: Family
    adapters: tuple[Adapter, ...] = ()  # in training order
    trusted: bool = False  # its repository's own code may run
    template_file: str = TEMPLATE_FILE  # the one of its files that has the chat template

    @property
    def stack(self) -> str | None:
        """Identities of the adapters in order, as one text; None without any."""
        return " then ".join(adapter.identity for adapter in self.adapters) or None

    @property
    def model_type(self) -> str:
        """Model type, as in the config."""
        return str(self.config.model_type)

    @property
    def chat_template_sha256(self) -> str:
        """Digest of the chat template."""
        return hashlib.sha256(str(self.processor.chat_template).encode()).hexdigest()

    @property
    def image_token_id(self) -> int:
        """Token id of the image placeholder."""
        return int(attrgetter(self.family.image_token_id)(self.config))


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A checkpoint with its weights, in eval mode.

    Examples
    --------
    >>> import halp_probe
    >>> loaded = halp_probe.load_model("shapes")
    >>> loaded.checkpoint.model_type, loaded.num_layers, str(loaded.device)
    ('qwen2_5_vl', 6, 'cpu')
    """

    checkpoint: Checkpoint
    model: Any  # a transformers image-text-to-text model
    quantization: str | None = None  # 4bit or 8bit

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        device: torch.device = self.model.device
        return device

    @property
    def num_layers(self) -> int:
        """Number of decoder blocks."""
        return len(self.checkpoint.family.blocks(self.model))


def open_checkpoint(
    name: str | None,
    *,
    adapters: Sequence[str] = (),
    cache_dir: str | None = None,
    revision: str | None = None,
    trust_remote_code: str | None = None,
    trust_lookup: bool = False,
    verify_weights: bool = False,
) -> Checkpoint:
    """Open the configuration and processor of `name`, and its adapters, without the model's weights.

    Without a name it is the model that the first adapter was trained on; without a revision, the one that the first
    adapter names. `trust_remote_code` names the repository or folder whose own Python code may run; it must be the
    model's. `verify_weights` reads all of a large folder for its fingerprint, whatever the cache holds. Raises
    ModelError if the model or an adapter cannot be found or an adapter belongs to another model, and InputError, with
    what to add, if the model's family is not supported.
    """
    stack = tuple(open_adapter(adapter, cache_dir=cache_dir) for adapter in adapters)
    if name is None and not stack:
        raise ModelError("no model is named: pass `model`, or an `adapter`, which names its own")
    name = name or stack[0].base
    trusted = check_code(name, _source(name), trust_remote_code)
    revision = revision or parse_name(name).revision or _adapter_revision(parse_name(name), stack)
    try:
        files = _find(name, revision, cache_dir=cache_dir, trusted=trusted)
        config, family, processor, template_file = _open_files(files, name, trusted=trusted, trust_lookup=trust_lookup)
    except InputError:
        raise  # its message is complete
    except LOAD_ERRORS as error:
        raise _explain(name, error) from error
    local = Path(_source(name)).is_dir()
    identity = local_revision(Path(files.source), with_code=trusted, verify=verify_weights) if local else files.commit
    if not local and not re.fullmatch(r"[0-9a-f]{40}", str(identity)):
        raise ModelError(f"cannot tell which commit of {name!r} this is; pass its `revision`")
    template = processor.chat_template
    processor, stack = use_adapter_files(processor, stack, config, int(attrgetter(family.image_token_id)(config)))
    if processor.chat_template != template:
        template_file = f"the files of {', '.join(adapter.name for adapter in stack)}"
    check_bases(stack, name, str(identity))
    return Checkpoint(
        name=name,
        source=files.source,
        revision=str(identity),
        config=config,
        processor=processor,
        family=family,
        adapters=stack,
        trusted=trusted,
        template_file=template_file,
    )


def _source(name: str) -> str:
    """Return what transformers can load: a bundled model is this installation's, whichever path names it."""
    return str(BUNDLED_FOLDER) if parse_name(name).name == BUNDLED else name


def _find(name: str, revision: str | None, *, cache_dir: str | None, trusted: bool) -> CheckpointFiles:
    """Find the files of a model; those of the hub belong to one commit. Raises what `open_checkpoint` does, or OSError.

    The code of a trusted repository is found by the repository's name, so its cached folder does not do.
    """
    source = _source(name)
    local = Path(source).is_dir()
    if local and revision != parse_name(name).revision:
        raise ModelError(f"`revision` {revision}: {name} is a folder, which has no revisions; leave it out")
    check_place(source)
    commit = revision
    if not trusted:
        source, commit = locate(source, revision, cache_dir=cache_dir)
    elif not local:
        commit = hub_commit(source, revision, cache_dir=cache_dir)
    check_no_adapter_inside(name, source, commit, cache_dir)
    if trusted:
        check_own_code(source, commit, cache_dir)
    return CheckpointFiles(source=source, commit=commit, cache_dir=cache_dir)


def _open_files(
    files: CheckpointFiles, name: str, *, trusted: bool, trust_lookup: bool
) -> tuple[Any, Family, Any, str]:
    """Open configuration, family, processor and the name of the template's file; raises what `open_checkpoint` does."""
    where = {"cache_dir": files.cache_dir, "revision": files.commit, "trust_remote_code": trusted}
    config = _answering_part(AutoConfig.from_pretrained(files.source, **where))
    _check_tied(config, name)
    if trusted:
        check_own_class(config, name, files.source, files.commit, files.cache_dir)
    family = family_for(
        config,
        lambda: AutoProcessor.from_pretrained(files.source, **where),
        name,
        trust_lookup=trust_lookup,
        trusted=trusted,
    )
    check_flat_keys(config, files.content("config.json"))
    image_token_id = int(attrgetter(family.image_token_id)(config))
    return config, family, *open_processor(files, config, image_token_id, name, where)


def check_place(source: str) -> None:
    """Raise ModelError for the path of a folder that does not exist; hub names pass."""
    if not Path(source).is_dir() and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise ModelError(f"the folder {source} does not exist; pass a checkpoint's folder, or a hub name (owner/model)")


def _explain(name: str, error: Exception) -> ModelError:
    """Turn an error of transformers or the hub into a ModelError with the remedy."""
    if unknown := re.search(r"model type `(.+?)` but Transformers does not recognize", str(error)):
        return ModelError(
            f"model_type {unknown[1]!r} of {name!r} is not supported: transformers {transformers.__version__} does not "
            "know it. `halp-probe families` lists what is supported; for a newer family upgrade transformers, then add "
            f"a row {unknown[1]!r} in halp_probe/models/families/ and a tiny model in tests/tiny/ that proves it, or "
            "try `trust_lookup`"
        )
    if "trust_remote_code" in str(error):  # transformers' own remedy
        return ModelError(
            f"{name} contains its own Python code; read it, and to let it run pass `trust_remote_code` {name}"
        )
    return ModelError(
        f"cannot load model {name!r}: {str(error).splitlines()[0]} (check the name; without network pass a local "
        "folder, or a `cache_dir` that holds the model)"
    )


def _answering_part(config: Any) -> Any:
    """Return the configuration of the part that answers in text, of a model that also speaks (Qwen-Omni's thinker)."""
    return getattr(config, "thinker_config", None) or config


def _check_tied(config: Any, name: str) -> None:
    """Raise ModelError for a vision tower whose final LayerNorm this transformers would leave out."""
    vision = getattr(config, "vision_config", None)
    if getattr(vision, "tie_last_hidden_states", None) and not ties_last_hidden_states():
        raise ModelError(
            f"{name} reads its vision tower after the final LayerNorm (tie_last_hidden_states), which transformers "
            f"{transformers.__version__} does not know and would leave out; upgrade transformers"
        )


def _adapter_revision(model: ModelName, adapters: Sequence[Adapter]) -> str | None:
    """Return the hub's revision of this model that the first adapter was trained on, if it names one."""
    if adapters and model.on_hub and adapters[0].base.casefold() == model.name.casefold():
        return adapters[0].base_revision
    return None


def load_weights(
    checkpoint: Checkpoint,
    *,
    cache_dir: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    attn_implementation: str | None = None,
    quantization: str | None = None,
    device_map: str | None = None,
) -> LoadedModel:
    """Load the checkpoint's weights, with its adapters on them.

    `device` and `dtype`: see `device_and_dtype`. `quantization` is 4bit or 8bit; `device_map` "auto" spreads the model
    over all GPUs. Raises ModelError when the weights cannot be read, or do not fit the device or each other.
    """
    if device_map and device != "auto":
        raise ModelError(f"`device_map` {device_map} takes all GPUs; leave `device` {device} out, or `device_map`")
    device, dtype = device_and_dtype(device, dtype)
    if device == "cpu":
        keep_freed_memory()
    quantized = _check_quantized(checkpoint, quantization)
    model = read_weights(
        checkpoint,
        cache_dir=cache_dir,
        dtype=dtype,
        device_map=device_map or (device if quantized else None),
        attn_implementation=attn_implementation,
        **({"quantization_config": bitsandbytes_config(quantization, dtype)} if quantization else {}),
    )
    if device_map is None and not quantized:
        try:
            model = model.to(device)
        except LOAD_ERRORS as error:
            raise ModelError(f"cannot load model {checkpoint.name!r} on {device}: {error}") from error
    _check_on_gpus(model)
    if quantization == "4bit":
        check_runs(model)
    complete_outputs(model)
    model = apply_adapters(model, checkpoint.adapters)
    check_vocabulary(model, checkpoint.processor, checkpoint.adapters)
    pack_vision_attention(model, checkpoint.family)
    flatten_patch_projection(model, checkpoint.family)
    return LoadedModel(checkpoint=checkpoint, model=model.eval(), quantization=quantization)


def device_and_dtype(device: str, dtype: str) -> tuple[str, str]:
    """Resolve "auto" in both: CUDA with bfloat16 if there is a GPU, else the CPU with float32.

    Raises ModelError for CUDA without a GPU.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"`device` {device}: torch sees no CUDA device; use `device='cpu'`")
    auto = "bfloat16" if device.startswith("cuda") else "float32"
    return device, auto if dtype == "auto" else dtype


def _check_on_gpus(model: Any) -> None:
    """Raise ModelError if a device map could not place all of the model on the GPUs."""
    places = set((getattr(model, "hf_device_map", None) or {}).values())
    if len(places) > 1 and places & {"cpu", "disk"}:
        raise ModelError(
            "the model does not fit the GPUs: part of it would lie in main memory or on disk; pass `quantization`, "
            "a smaller `dtype`, or use more GPUs"
        )


def _check_quantized(checkpoint: Checkpoint, quantization: str | None) -> bool:
    """Return whether the weights will be quantized. Raises ModelError for options that such weights do not allow."""
    is_quantized = getattr(checkpoint.config, "quantization_config", None) is not None
    if is_quantized and quantization:
        raise ModelError(f"{checkpoint.name} is already quantized; leave `quantization` out")
    if (is_quantized or quantization) and len(checkpoint.adapters) > 1:
        raise ModelError(
            f"{len(checkpoint.adapters)} adapters on quantized weights: merging into those loses precision; run "
            "halp-probe merge on the model without quantization, then pass its `output_dir` as `model`"
        )
    return is_quantized or quantization is not None
