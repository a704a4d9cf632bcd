"""Options that name a model and say how to load it; torch is imported only when they are used."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from halp_probe.models.quantization import quiet_bitsandbytes

if TYPE_CHECKING:
    from halp_probe.models.loading import Checkpoint, LoadedModel

DEFAULT_MODEL = "Qwen/Qwen2.5-VL-7B-Instruct"
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Name of a model, and how to load it; see `load_weights` for each option."""

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
    verify_weights: bool = False

    @property
    def base_name(self) -> str:
        """Last part of the model's name, or of its first adapter's, for file names."""
        return (self.model or self.adapter[0]).rstrip("/").rsplit("/", 1)[-1]


def quiet_libraries() -> None:
    """Switch off progress bars, except on a terminal, and all messages but errors of the hub and bitsandbytes."""
    import huggingface_hub
    import transformers

    quiet_bitsandbytes()
    huggingface_hub.logging.set_verbosity_error()  # it logs every retry; a final failure is our error
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()


def open_model(options: ModelOptions) -> Checkpoint:
    """Open configuration, processor and adapters, and silence libraries. Raises what `open_checkpoint` raises."""
    from halp_probe.models.loading import open_checkpoint

    quiet_libraries()
    return open_checkpoint(
        options.model,
        adapters=options.adapter,
        cache_dir=options.cache_dir,
        revision=options.revision,
        trust_remote_code=options.trust_remote_code,
        trust_lookup=options.trust_lookup,
        verify_weights=options.verify_weights,
    )


def load_model_weights(options: ModelOptions, checkpoint: Checkpoint) -> LoadedModel:
    """Load the weights of a checkpoint from `open_model`; raises what `load_weights` raises."""
    from halp_probe.models.loading import load_weights

    return load_weights(
        checkpoint,
        cache_dir=options.cache_dir,
        device=options.device,
        dtype=options.dtype,
        attn_implementation=options.attn_implementation,
        quantization=options.quantization,
        device_map=options.device_map,
    )


def load(options: ModelOptions) -> LoadedModel:
    """Open the model and load its weights."""
    return load_model_weights(options, open_model(options))


def load_model(
    model: str | None = None,
    *,
    adapter: str | Sequence[str] = (),
    revision: str | None = None,
    cache_dir: str = ModelOptions.cache_dir,
    dtype: str = "auto",
    device: str = "auto",
    device_map: str | None = None,
    attn_implementation: str | None = None,
    quantization: str | None = None,
    trust_remote_code: str | None = None,
    trust_lookup: bool = False,
    verify_weights: bool = False,
) -> LoadedModel:
    """Load a vision-language model with its processor, and adapters on it.

    Parameters
    ----------
    model
        Hub name, folder or 'shapes' (the bundled one); None: the model that the first adapter was trained on.
    adapter
        Folder or hub name of a PEFT adapter, or several in training order.
    revision
        Branch, tag or commit of a hub model.
    cache_dir
        Where downloaded models are kept.
    dtype
        Dtype of the weights: float32, bfloat16 or float16; auto: bfloat16 on CUDA, else float32.
    device
        One of auto, cpu, cuda and cuda:N.
    device_map
        "auto" spreads the model over all GPUs.
    attn_implementation
        One of sdpa, eager and flash_attention_2; None: the model's default.
    quantization
        "4bit" or "8bit" by bitsandbytes.
    trust_remote_code
        The repository OWNER/MODEL whose Python code may run.
    trust_lookup
        For a model type that is not in the table of families, use transformers' own lookups.
    verify_weights
        Read the whole weights of a folder for its fingerprint, also if the cache remembers it.

    Raises
    ------
    ModelError
        An InputError that says what cannot be loaded, and what to pass instead.

    Examples
    --------
    >>> import halp_probe
    >>> loaded = halp_probe.load_model("shapes")
    >>> loaded.num_layers
    6
    """
    return load(
        ModelOptions(
            model=model,
            adapter=(adapter,) if isinstance(adapter, str) else tuple(adapter),
            revision=revision,
            cache_dir=cache_dir,
            dtype=dtype,
            device=device,
            device_map=device_map,
            attn_implementation=attn_implementation,
            quantization=quantization,
            trust_remote_code=trust_remote_code,
            trust_lookup=trust_lookup,
            verify_weights=verify_weights,
        )
    )
