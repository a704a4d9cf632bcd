"""Flags that name a model and say how to load it; every command with a model has them."""

from __future__ import annotations

import argparse
from dataclasses import fields

from halp_probe.models.options import DTYPES, ModelOptions
from halp_probe.models.quantization import QUANTIZATIONS


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
    """Add only those flags that name the model, for a command that loads it in its own way."""
    parser.set_defaults(default_model=default)
    add = parser.add_argument
    otherwise = otherwise or f"the first adapter's base{f', else {default}' if default else ''}"
    add("--model", help=f"hub name or folder; 'shapes' is bundled ({otherwise})")
    add(
        "--adapter",
        action="append",
        metavar="DIR",
        help="folder or hub name of a PEFT adapter; several: one flag each, in training order",
    )
    add("--revision", help="branch, tag or commit of a hub model (its default branch)")
    add("--cache-dir", default="./model_cache", help="where downloaded models are kept (%(default)s)")
    add(
        "--trust-remote-code", metavar="OWNER/MODEL", help="run the Python code of this repository, the model's (never)"
    )
    add("--trust-lookup", action="store_true", help="try an unknown model_type by transformers' own lookups")
    add("--verify-weights", action="store_true", help="read a large folder's weights anew for its fingerprint")


def model_options(args: argparse.Namespace) -> ModelOptions:
    """Return the options that the parsed flags give; without model and adapter, with the command's default model.

    Options for which the command has no flag keep their defaults.
    """
    flags = vars(args)
    values = {field.name: flags[field.name] for field in fields(ModelOptions) if field.name in flags}
    values["adapter"] = tuple(args.adapter or ())
    if args.model is None and not args.adapter:
        values["model"] = args.default_model
    return ModelOptions(**values)
