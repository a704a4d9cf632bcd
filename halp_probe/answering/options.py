"""The flags by which every task says how it is answered; torch and openai are loaded when they are used."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from typing import Any

from halp_probe.commands.arguments import not_negative, not_negative_number, positive, positive_number, share_or_one
from halp_probe.commands.prompt_flags import add_prompt_arguments, template_options
from halp_probe.engine.sampling import GREEDY, Decoding
from halp_probe.errors import InputError
from halp_probe.models.options import ModelOptions, add_model_arguments

ENGINES = ("local", "server")


@dataclass(frozen=True)
class Usual:
    """What a task's replies need where no flag says otherwise."""

    max_new_tokens: int
    max_pixels: int | None = None  # None: the processor's own; only for families that take a bound


@dataclass(frozen=True)
class AnswerOptions:
    """See `add_answer_arguments` for what each means."""

    model: ModelOptions
    template_options: str | None  # a JSON object
    max_new_tokens: int
    batch_size: int
    decoding: Decoding = GREEDY
    engine: str = "local"
    base_url: str | None = None
    concurrency: int = 8
    timeout: float = 120.0
    tries: int = 5
    batch_tokens: int | None = None
    workers: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    usual_max_pixels: int | None = None  # without `max_pixels`, where the image size is not the family's own affair
    prompt_date: str | None = None
    system_prompt: str | None = None

    @classmethod
    def of(cls, args: argparse.Namespace) -> AnswerOptions:
        """From parsed flags. Raises InputError for flags that do not go together."""
        told: dict[str, Any] = {
            "model": ModelOptions.of(args),
            "template_options": template_options(args),
            "decoding": Decoding(args.temperature, args.top_p, args.repetition_penalty, args.seed),
        }
        values = {field.name: getattr(args, field.name) for field in fields(cls) if field.name not in told}
        return cls(**values, **told)

    def __post_init__(self) -> None:
        if (self.engine == "server") != (self.base_url is not None):
            raise InputError("`engine` server and `base_url` URL go together: pass both, or neither to load the model")


def add_answer_arguments(parser: argparse.ArgumentParser, *, model: str, batch_size: int, usual: Usual) -> None:
    """Add the flags that make an AnswerOptions, with the command's own defaults."""
    add_model_arguments(parser, default=model)
    add = parser.add_argument
    add("--batch-size", type=positive, default=batch_size, help="images a batch, with all their prompts (%(default)s)")
    add("--batch-tokens", type=positive, help="padded tokens a batch at most (cpu 8192, cuda 16384)")
    add("--workers", type=not_negative, help="processes that prepare images ahead (cuda up to 8, cpu 0)")
    add(
        "`max_tokens`",
        "`max_new_tokens`",
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
