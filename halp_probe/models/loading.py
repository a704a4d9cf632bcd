"""Open a VLM checkpoint by hub name or folder, and load its weights; `shapes` is the bundled one."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from halp_probe.errors import InputError
from halp_probe.models.compat import hub_commit
from halp_probe.models.cpu_memory import keep_freed_memory
from halp_probe.models.families import family_of
from halp_probe.models.family import Family
from halp_probe.models.patch_projection import flatten_patch_projection
from halp_probe.models.vision_attention import pack_vision_attention

BUNDLED = "shapes"
BUNDLED_FOLDER = Path(__file__).parents[1] / "shapes" / "bundled"
_CHECKPOINT_FILES = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.model", "*.txt")
_LOAD_ERRORS = (OSError, ValueError, ImportError, RuntimeError, SafetensorError)  # what transformers and torch raise


class ModelError(InputError):
    """A model that cannot be loaded or used; the message says why and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """All of a model but its weights: enough to make prompts."""

    name: str
    source: str  # what from_pretrained takes
    revision: str  # the hub's commit, or a fingerprint of the local folder
    config: Any
    processor: Any
    family: Family

    @property
    def model_type(self) -> str:
        return str(self.config.model_type)

    @property
    def image_token_id(self) -> int:
        return int(attrgetter(self.family.image_token_id)(self.config))


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint with its weights, in eval mode."""

    checkpoint: Checkpoint
    model: Any  # a transformers image-text-to-text model

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def num_layers(self) -> int:
        return len(self.checkpoint.family.blocks(self.model))


def open_checkpoint(name: str, *, cache_dir: str | None = None, revision: str | None = None) -> Checkpoint:
    """The configuration and processor of `name`; no weights are fetched.

    Raises ModelError when it cannot be found, and InputError with what to add when its family is not supported.
    """
    source = str(BUNDLED_FOLDER) if name == BUNDLED else name
    local = Path(source).is_dir()
    if not local and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise ModelError(f"the folder {source} does not exist; pass a checkpoint's folder, or a hub name (owner/model)")
    try:
        commit = revision if local else hub_commit(source, revision, cache_dir=cache_dir)
        config = AutoConfig.from_pretrained(source, cache_dir=cache_dir, revision=commit)
        family = family_of(config.model_type)
        processor = AutoProcessor.from_pretrained(source, cache_dir=cache_dir, revision=commit)
    except _LOAD_ERRORS as error:
        raise ModelError(
            f"cannot load model {name!r}: {str(error).splitlines()[0]} (check the name; without network pass a local "
            "folder, or a --cache-dir that holds the model)"
        ) from error
    identity = _folder_fingerprint(Path(source)) if local else str(commit)
    if not local and not re.fullmatch(r"[0-9a-f]{40}", identity):
        raise ModelError(f"cannot tell which commit of {name!r} this is; pass its --revision")
    return Checkpoint(name, source, identity, config, processor, family)


def load_model(
    checkpoint: Checkpoint,
    *,
    cache_dir: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    attn_implementation: str | None = None,
) -> LoadedModel:
    """Load the checkpoint's weights.

    `device` and `dtype` "auto" mean CUDA with bfloat16 where there is a GPU, else the CPU with float32. Raises
    ModelError when the weights cannot be read or do not fit the device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"--device {device}: torch sees no CUDA device; use --device cpu")
    if dtype == "auto":
        dtype = "bfloat16" if device.startswith("cuda") else "float32"
    if device == "cpu":
        keep_freed_memory()
    local = Path(checkpoint.source).is_dir()
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            checkpoint.source,
            cache_dir=cache_dir,
            revision=None if local else checkpoint.revision,
            dtype=getattr(torch, dtype),
            attn_implementation=attn_implementation,
        )
        model = model.to(device)
    except _LOAD_ERRORS as error:
        raise ModelError(f"cannot load model {checkpoint.name!r} on {device}: {error}") from error
    pack_vision_attention(model, checkpoint.family)
    flatten_patch_projection(model, checkpoint.family)
    return LoadedModel(checkpoint, model.eval())


def _folder_fingerprint(folder: Path) -> str:
    """Tells one local checkpoint from another by the names and whole contents of its files."""
    digest = hashlib.sha256()
    for path in sorted({file for pattern in _CHECKPOINT_FILES for file in folder.glob(pattern)}):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return f"local-{digest.hexdigest()[:16]}"
