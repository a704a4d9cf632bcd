"""Load a VLM and its processor by hub name or folder; `shapes` is the bundled one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from halp_probe.errors import InputError
from halp_probe.models.families import Family, family_of

BUNDLED = "shapes"
BUNDLED_FOLDER = Path(__file__).parents[1] / "shapes" / "bundled"
_WEIGHT_FILES = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.model", "*.txt")
_SAMPLED_BYTES = 1 << 20


class ModelError(InputError):
    """A model that cannot be loaded or used; the message says why and what to do."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode with everything that goes with it."""

    name: str
    revision: str  # the hub's commit, or a fingerprint of the local folder
    model: Any  # a transformers image-text-to-text model
    processor: Any
    family: Family

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def model_type(self) -> str:
        return str(self.model.config.model_type)

    @property
    def image_token_id(self) -> int:
        return int(getattr(self.model.config, self.family.image_token_id))

    @property
    def num_layers(self) -> int:
        return len(self.family.blocks(self.model))


def load_model(
    name: str,
    *,
    cache_dir: str | None = None,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    attn_implementation: str | None = None,
) -> LoadedModel:
    """Load `name` in eval mode.

    `device` and `dtype` "auto" mean CUDA with bfloat16 where there is a GPU, else the CPU with float32. Raises
    ModelError when the model cannot be found or its family is not supported (before any weights are fetched).
    """
    source = str(BUNDLED_FOLDER) if name == BUNDLED else name
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"--device {device}: torch sees no CUDA device; use --device cpu")
    if dtype == "auto":
        dtype = "bfloat16" if device.startswith("cuda") else "float32"
    where = {"cache_dir": cache_dir, "revision": revision}
    try:
        config = AutoConfig.from_pretrained(source, **where)
        family = family_of(config.model_type)
        processor = AutoProcessor.from_pretrained(source, **where)
        model = AutoModelForImageTextToText.from_pretrained(
            source, dtype=getattr(torch, dtype), attn_implementation=attn_implementation, **where
        )
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"cannot load model {name!r}: {error}") from error
    fingerprint = _folder_fingerprint(Path(source)) if Path(source).is_dir() else str(config._commit_hash)
    return LoadedModel(name, fingerprint, model.to(device).eval(), processor, family)


def _folder_fingerprint(folder: Path) -> str:
    """Tells one local checkpoint from another: names, sizes, and the first and last MiB of its files."""
    digest = hashlib.sha256()
    for path in sorted({file for pattern in _WEIGHT_FILES for file in folder.glob(pattern)}):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLED_BYTES))
            file.seek(max(0, size - _SAMPLED_BYTES))
            digest.update(file.read())
    return f"local-{digest.hexdigest()[:16]}"
