"""The flags by which every task says how it is answered; torch and openai are loaded when they are used."""

from __future__ import annotations

from dataclasses import dataclass

from halp_probe.engine.sampling import GREEDY, Decoding
from halp_probe.errors import InputError
from halp_probe.models.options import ModelOptions

ENGINES = ("local", "server")


@dataclass(frozen=True)
class Usual:
    """What a task's replies need where no flag says otherwise."""

    max_new_tokens: int
    max_pixels: int | None = None  # None: the processor's own; only for families that take a bound


@dataclass(frozen=True, kw_only=True)
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

    def __post_init__(self) -> None:
        if (self.engine == "server") != (self.base_url is not None):
            raise InputError("`engine` server and `base_url` URL go together: pass both, or neither to load the model")
