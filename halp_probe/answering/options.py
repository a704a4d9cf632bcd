"""Options of how a task's items are answered; torch and openai are not loaded here."""

from __future__ import annotations

from dataclasses import dataclass

from halp_probe.engine.sampling import GREEDY, Decoding
from halp_probe.errors import InputError
from halp_probe.models.options import ModelOptions

ENGINES = ("local", "server")


@dataclass(frozen=True)
class UsualLimits:
    """Limits of a task's replies and images, for flags that are not given."""

    max_new_tokens: int
    max_pixels: int | None = None  # None: the processor's own; only for families that take a bound


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """Options of answering; `add_answer_arguments` explains each."""

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
    usual_max_pixels: int | None = None  # in the place of `max_pixels`, for families whose image size can be bounded
    prompt_date: str | None = None
    system_prompt: str | None = None

    def __post_init__(self) -> None:
        if (self.engine == "server") != (self.base_url is not None):
            raise InputError("`engine` server and `base_url` URL go together: pass both, or neither to load the model")
