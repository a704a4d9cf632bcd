"""Options of a judge model, what it is asked about, and what any judge must be able to do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from halp_probe.completion import NoReply
from halp_probe.endpoint import EndpointFlags, check_url
from halp_probe.labels.table import LabelError
from halp_probe.labels.verdict_cache import VerdictCache
from halp_probe.progress import Counter

WHICH = ("all", "unknown", "contains")
FLAGS = EndpointFlags(
    who="the judge's endpoint",
    url="`judge_url`",
    model="`judge_model`",
    needs="`judge`",
    extra="judge",
    error=LabelError,
)


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Options of a judge: which model is asked about which rows, and how.

    Without `url` the model is loaded here: a Hugging Face name, or a folder; `rate`, `workers`, `timeout`, `tries` and
    `first_wait` are those of an endpoint.

    Examples
    --------
    >>> import halp_probe
    >>> judge = halp_probe.JudgeConfig(which="unknown", url="http://localhost:8000/v1", model="a-judge", rate=2)
    >>> judge.timeout  # seconds; halp_probe.label("output", judge=judge) would ask it
    60.0
    """

    which: str  # "all" answers; those the rules leave "unknown"; "contains": of these, and those called wrong by
    # absence, the ones of the rule contains
    model: str
    url: str | None = None  # of an OpenAI-compatible endpoint, up to and with /v1; None: the model is loaded here
    revision: str | None = None  # branch, tag or commit of a model that is loaded here
    cache: str | os.PathLike[str] | None = None  # None: beside the labels, as labels.verdicts.jsonl
    rate: float = 5.0  # requests a second at most, repeated ones included
    workers: int = 4  # requests at once at most
    timeout: float = 60.0  # seconds for one reply
    max_tokens: int = 16  # of one reply; more for a judge that thinks aloud
    tries: int = 5  # requests for one answer at most
    first_wait: float = 1.0  # seconds before the second try, doubled for each further one

    def __post_init__(self) -> None:
        if self.which not in WHICH:
            raise LabelError(f"`judge` {self.which}: write one of {', '.join(WHICH)}")
        if self.url is not None:
            check_url(self.url, FLAGS)
            if self.revision is not None:
                raise LabelError("`judge_revision` goes with a model that is loaded here; leave it or `judge_url` out")


@dataclass(frozen=True, kw_only=True)
class Question:
    """Question put to a judge. `answer` is the model's, without an echoed prompt and thinking."""

    question: str
    truth: str
    answer: str


class Judge(Protocol):
    """Judge model that can be asked."""

    @property
    def identity(self) -> str:
        """Return which model it is: verdicts of one are not taken for another's."""

    @property
    def about(self) -> Mapping[str, Any]:
        """Return what the record of a run says of it, beside its name; JSON values."""

    def ask(self, new: Mapping[str, Question], cache: VerdictCache, progress: Counter) -> dict[str, NoReply]:
        """Ask about each; verdicts go to the cache as they come. Return the failures by key."""
