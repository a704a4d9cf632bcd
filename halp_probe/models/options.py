"""Options that name a model and say how to load it; torch is imported when they are used."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from halp_probe.models.quantization import quiet_bitsandbytes

if TYPE_CHECKING:
    from halp_probe.models.loading import Checkpoint, LoadedModel

DEFAULT_MODEL = "Qwen/Qwen2.5-VL-7B-Instruct"
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and how it is loaded; see `load_model` for what each means."""

    model: str | None  # None: the model that the first adapter was trained on
    adapter: tuple[str, ...] = ()
    revision: str | None = None
    cache_dir: str = "./model_cache"
    dtype: str = "auto"
    device: str = "auto"
    attn_implementation: str | None = None
    quantization: str | None = None
    device_map: str | None = None
    trust_remote_code: str | None = None
    trust_lookup: bool = False

    @property
    def base_name(self) -> str:
        """The last part of the model's name, or of its first adapter's, for names of files."""
        return (self.model or self.adapter[0]).rstrip("/").rsplit("/", 1)[-1]


def quiet_libraries() -> None:
    """From here on: no progress bars but on a terminal, and of the hub and bitsandbytes errors alone."""
    import huggingface_hub
    import transformers

    quiet_bitsandbytes()
    huggingface_hub.logging.set_verbosity_error()  # it tells of every retry; what fails in the end is our error
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()


def open_model(options: ModelOptions) -> Checkpoint:
    """Configuration, processor and adapters; libraries keep quiet from here on. Raises as `open_checkpoint` does."""
    from halp_probe.models.loading import open_checkpoint

    quiet_libraries()
    return open_checkpoint(
        options.model,
        adapters=options.adapter,
        cache_dir=options.cache_dir,
        revision=options.revision,
        trust_remote_code=options.trust_remote_code,
        trust_lookup=options.trust_lookup,
    )


def load_opened(options: ModelOptions, checkpoint: Checkpoint) -> LoadedModel:
    """The weights of what `open_model` opened; raises what `load_model` raises."""
    from halp_probe.models.loading import load_model

    return load_model(
        checkpoint,
        cache_dir=options.cache_dir,
        device=options.device,
        dtype=options.dtype,
        attn_implementation=options.attn_implementation,
        quantization=options.quantization,
        device_map=options.device_map,
    )


def load(options: ModelOptions) -> LoadedModel:
    """Both, one after the other."""
    return load_opened(options, open_model(options))
