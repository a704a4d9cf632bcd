"""Flags that say how a task's questions are answered; every task has them."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from halp_probe.answering.options import ENGINES, AnswerOptions, UsualLimits
from halp_probe.commands.arguments import not_negative, not_negative_number, positive, positive_number, share_or_one
from halp_probe.commands.model_flags import add_model_arguments, model_options
from halp_probe.commands.prompt_flags import add_prompt_arguments, template_options
from halp_probe.engine.sampling import Decoding


def add_answer_arguments(parser: argparse.ArgumentParser, *, model: str, batch_size: int, usual: UsualLimits) -> None:
    """Add the flags that make an AnswerOptions, with the command's own defaults."""
    add_model_arguments(parser, default=model)
    add = parser.add_argument
    add("--batch-size", type=positive, default=batch_size, help="images a batch, with all their prompts (%(default)s)")
    add("--batch-tokens", type=positive, help="padded tokens a batch at most (cpu 8192, cuda 16384)")
    add("--workers", type=not_negative, help="processes that prepare images ahead (cuda up to 8, cpu 0)")
    add(
        "--max-tokens",
        "--max-new-tokens",
        dest="max_new_tokens",
        metavar="N",
        type=positive,
        default=usual.max_new_tokens,
        help="longest reply in tokens (%(default)s)",
    )
    otherwise = (
        "the processor's" if usual.max_pixels is None else f"{usual.max_pixels}, where the family leaves it open"
    )
    add_prompt_arguments(parser, largest=otherwise)
    parser.set_defaults(usual_max_pixels=usual.max_pixels)
    add("--temperature", type=not_negative_number, help="of sampling (0: greedy, the default)")
    add("--top-p", type=share_or_one, default=1.0, help="sample from the likeliest tokens of this mass (1)")
    add("--repetition-penalty", type=positive_number, help="above 1 discourages repeating (the checkpoint's own)")
    add("--seed", type=int, default=0, help="of all that is drawn (%(default)s)")
    server = parser.add_argument_group("a server instead of a loaded model", "needs the extra `server`")
    server.add_argument("--engine", choices=ENGINES, default="local", help="what answers (%(default)s)")
    server.add_argument("--base-url", metavar="URL", help="OpenAI-compatible endpoint, as http://localhost:8000/v1")
    server.add_argument("--concurrency", type=positive, default=8, help="requests at once at most (%(default)s)")
    server.add_argument("--timeout", type=positive_number, default=120.0, help="seconds for one reply (%(default)s)")
    server.add_argument("--tries", type=positive, default=5, help="requests for one reply at most (%(default)s)")


def answer_options(args: argparse.Namespace) -> AnswerOptions:
    """Return the options that the parsed flags give. Raises InputError for flags that do not go together."""
    composed: dict[str, Any] = {
        "model": model_options(args),
        "template_options": template_options(args),
        "decoding": Decoding(
            temperature=args.temperature, top_p=args.top_p, repetition_penalty=args.repetition_penalty, seed=args.seed
        ),
    }
    values = {field.name: getattr(args, field.name) for field in fields(AnswerOptions) if field.name not in composed}
    return AnswerOptions(**values, **composed)
