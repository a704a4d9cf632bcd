"""Passes of the engine over prompts about questions that are answered already: first tokens, and short replies."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from halp_probe.engine.batched import BatchRunner
from halp_probe.engine.batching import group_by
from halp_probe.engine.engine import ComputedBatch, Engine
from halp_probe.engine.preparing import Preparer
from halp_probe.models.loading import LoadedModel
from halp_probe.records import CaptureSpec, Failure, Sample

_REPLY_TOKENS = 12  # a number, and a few words around it


@dataclass(frozen=True, kw_only=True)
class PassResult:
    """Results of one pass, by question id."""

    first_logprobs: dict[str, np.ndarray]  # [V] float32, nats
    replies: dict[str, str]
    failures: tuple[Failure, ...]


class Passes:
    """A loaded model that reads further prompts as it read those of a run."""

    def __init__(self, loaded: LoadedModel, preparer: Preparer, *, share_prefix: bool, token_budget: int) -> None:
        self.loaded, self._preparer = loaded, preparer
        self._share_prefix, self._token_budget = share_prefix, token_budget

    def check(self, samples: Sequence[Sample]) -> None:
        """Raise InputError for prompts that the family does not take, such as those without a picture."""
        self._preparer.prompter.check(samples)

    def read(self, samples: Sequence[Sample], *, reply: bool = False) -> PassResult:
        """Read the prompts; with `reply` also let the model answer them, greedily and shortly."""
        spec = CaptureSpec((), _REPLY_TOKENS if reply else 0)
        engine = Engine(self.loaded, spec, share_prefix=self._share_prefix, keep_first=not reply)
        preparer = self._preparer
        if reply:
            preparer = replace(preparer, prompter=replace(preparer.prompter, answer_tokens=_REPLY_TOKENS))
        runner = BatchRunner(engine, preparer, {}, token_budget=self._token_budget, workers=0)
        images = group_by(samples, lambda sample: sample.subject)
        first: dict[str, np.ndarray] = {}
        replies: dict[str, str] = {}
        failures: list[Failure] = []
        with closing(runner.results(images, frozenset())) as results:
            for result in results:
                failures += result.failures
                for batch in result.computed:
                    first |= _first(batch)
                    if reply:
                        replies |= {row.sample.question_id: row.answer for row in engine.collect(batch)}
        return PassResult(first_logprobs=first, replies=replies, failures=tuple(failures))


def _first(batch: ComputedBatch) -> dict[str, np.ndarray]:
    if batch.first_logprobs is None:
        return {}
    return {prompt.sample.question_id: row for prompt, row in zip(batch.prompts, batch.first_logprobs, strict=True)}
