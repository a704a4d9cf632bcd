"""The flags by which every command names a model and says how to load it; torch is loaded when they are used."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from halp_probe.models.quantization import QUANTIZATIONS, quiet_bitsandbytes

if TYPE_CHECKING:
    from halp_probe.models.loading import Checkpoint, LoadedModel

DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ModelOptions:
    """See `add_model_arguments` for what each means."""

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

    @classmethod
    def of(cls, args: argparse.Namespace) -> ModelOptions:
        """From parsed flags; the command's default model holds where neither model nor adapter is named.

        What the command has no flag for keeps its default.
        """
        given = vars(args)
        values = {field.name: given[field.name] for field in fields(cls) if field.name in given}
        values["adapter"] = tuple(args.adapter or ())
        if args.model is None and not args.adapter:
            values["model"] = args.default_model
        return cls(**values)


def add_model_arguments(parser: argparse.ArgumentParser, *, default: str | None, otherwise: str | None = None) -> None:
    """Add the flags that make a ModelOptions; `default` is the model where neither it nor an adapter is named.

    `otherwise` says so in the help where the command finds its model in another way.
    """
    add_naming_arguments(parser, default=default, otherwise=otherwise)
    add = parser.add_argument
    add("--dtype", default="auto", choices=DTYPES, help="auto: bfloat16 on CUDA, else float32")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")
    add("--device-map", choices=("auto",), help="auto: spread a model over all GPUs")
    add("--attn-implementation", help="sdpa, eager or flash_attention_2 (the model's default)")
    add("--quantization", choices=QUANTIZATIONS, help="of the weights, by bitsandbytes (none)")


def add_naming_arguments(parser: argparse.ArgumentParser, *, default: str | None, otherwise: str | None = None) -> None:
    """Those of them that say which model it is, for a command that loads it in a way of its own."""
    parser.set_defaults(default_model=default)
    add = parser.add_argument
    otherwise = otherwise or f"the first adapter's base{f', else {default}' if default else ''}"
    add("--model", help=f"hub name or folder; 'shapes' is bundled ({otherwise})")
    add(
        "`adapter`",
        action="append",
        metavar="DIR",
        help="folder or hub name of a PEFT adapter; several: one flag each, in training order",
    )
    add("--revision", help="branch, tag or commit of a hub model (its default branch)")
    add("--cache-dir", default="./model_cache", help="where downloaded models are kept (%(default)s)")
    add(
        "`trust_remote_code`", metavar="OWNER/MODEL", help="run the Python code of this repository, the model's (never)"
    )
    add("--trust-lookup", action="store_true", help="try an unknown model_type by transformers' own lookups")


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
    """The weights of what `open_model` opened; raises what `load_weights` raises."""
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
    """Both, one after the other."""
    return load_opened(options, open_model(options))
