"""Options of one extraction; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from halp_probe.engine.positions import parse_positions
from halp_probe.errors import InputError
from halp_probe.models.options import ModelOptions
from halp_probe.records import USUAL_POSITIONS

P_TRUE, VERBALISED, NO_IMAGE, OTHER_IMAGE = RIVALS = ("p-true", "verbalised", "no-image", "other-image")


@dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """Options of one extraction; `halp_probe.extract` documents each of them."""

    output_dir: Path
    model: ModelOptions
    source: Mapping[str, Any] = field(default_factory=dict)  # origin of the items, for the record; JSON values
    checkpoint_interval: int = 1000  # samples a shard
    limit: int | None = None  # at most this many samples
    layers: str | tuple[int, ...] | None = None  # "all" or a list such as "0,7,14"; None: the usual five
    positions: str | tuple[str, ...] = USUAL_POSITIONS  # keys of `POSITIONS`, or a list such as "query,image-mean"
    max_new_tokens: int = 64  # 0: no answers
    batch_tokens: int | None = None
    workers: int | None = None
    prefix_sharing: bool = True
    min_pixels: int | None = None
    max_pixels: int | None = None
    usual_max_pixels: int | None = None  # without `max_pixels`, where the family takes a bound
    prompt_date: str | None = None
    template_options: str | None = None  # a JSON object
    system_prompt: str | None = None
    samples: int = 0  # answers to sample beside the greedy one; 0: none
    sample_temperature: float = 1.0
    rivals: tuple[str, ...] = ()  # what else the model is asked about each question, of RIVALS
    question_view: bool = True
    store_dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise InputError for a number that is too small, which the command line's flags cannot be, and positions."""
        parse_positions(self.positions)
        for name, least in (
            ("checkpoint_interval", 1),
            ("limit", 1),
            ("max_new_tokens", 0),
            ("batch_tokens", 1),
            ("samples", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"`{name}` is {value}; pass {least} or more")
        if unknown := [name for name in self.rivals if name not in RIVALS]:
            raise InputError(f"`rivals` has {unknown[0]!r}; choose among {', '.join(RIVALS)}")
        if self.rivals and not self.max_new_tokens:
            raise InputError("`rivals` ask about the answers, but none are requested; leave `answers=False` out")
        if self.samples and not self.max_new_tokens:
            raise InputError(f"`samples` is {self.samples}, but no answers are requested; leave `answers=False` out")
