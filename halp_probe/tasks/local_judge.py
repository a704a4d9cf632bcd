"""Judge model in this process: the project's own engine, asked with text alone, greedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from halp_probe.completion import LENGTH, STOP, Completion, NoReply
from halp_probe.labels.judge_config import JudgeConfig, Question
from halp_probe.labels.judge_prompt import PROMPT, user_message
from halp_probe.labels.verdict_cache import VerdictCache, stored_verdict
from halp_probe.models.options import ModelOptions, load_model_weights, open_model
from halp_probe.progress import Counter
from halp_probe.records import Captured, CaptureSpec, Sample

if TYPE_CHECKING:
    from halp_probe.engine.batched import BatchRunner
    from halp_probe.models.loading import Checkpoint

_BATCH_TOKENS = {"cpu": 8192, "cuda": 32768}
_AT_ONCE = 32  # answers
_NOT_FINITE = "the tokens' distribution is not finite"


class LocalJudge:
    """Judge that is loaded from `config.model`, a Hugging Face name or a folder; see `Judge`.

    The model is opened when its identity is asked for, and its weights are loaded when there is something to ask.
    Raises what opening and loading raise.
    """

    def __init__(self, config: JudgeConfig) -> None:
        self._config = config
        self._options = ModelOptions(model=config.model, revision=config.revision)

    @property
    def identity(self) -> str:
        """Name and revision: a hub's commit, or the fingerprint of a folder."""
        return f"{self._config.model}@{self._checkpoint.revision}"

    @property
    def about(self) -> Mapping[str, Any]:
        """The revision, and that the model ran here."""
        return {"engine": "local", "revision": self._checkpoint.revision}

    def ask(self, new: Mapping[str, Question], cache: VerdictCache, progress: Counter) -> dict[str, NoReply]:
        """Ask about each in batches; verdicts are in the cache as batches end, also if the run is stopped then.

        Return the failures by key: texts that are longer than the model's context, and answers that are no numbers.
        """
        from halp_probe.engine.batched import samples_by_image

        failed: dict[str, NoReply] = {}
        samples = [_sample(key, about) for key, about in new.items()]
        runner = self._runner()
        with closing(runner.results(samples_by_image(samples, Path()), frozenset())) as results:
            for result in results:
                rows = [row for batch in result.computed for row in runner.engine.collect(batch)]
                failed |= {each.question_id: NoReply(reason=each.reason, passing=False) for each in result.failures}
                failed |= self._store(rows, cache)
                progress.advance(len(rows) + len(result.failures), failed=len(result.failures))
        return failed

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return open_model(self._options)

    def _runner(self) -> BatchRunner:
        from halp_probe.engine.batched import BatchRunner
        from halp_probe.engine.engine import Engine
        from halp_probe.engine.preparing import Preparer, default_workers
        from halp_probe.engine.prompting import Prompter

        limit = self._config.max_tokens
        prompter = Prompter(checkpoint=self._checkpoint, answer_tokens=limit, system=PROMPT)
        loaded = load_model_weights(self._options, self._checkpoint)
        on_cuda = loaded.device.type == "cuda"
        return BatchRunner(
            Engine(loaded, CaptureSpec((), limit)),
            Preparer(prompter, Path()),
            {},
            token_budget=_BATCH_TOKENS["cuda" if on_cuda else "cpu"],
            workers=default_workers(on_cuda),
            images_a_batch=_AT_ONCE,
        )

    def _store(self, rows: Sequence[Captured], cache: VerdictCache) -> dict[str, NoReply]:
        failed = {}
        for row in rows:
            key = row.sample.question_id
            if not np.isfinite([row.first_token_entropy, row.answer_logprob]).all():
                failed[key] = NoReply(reason=_NOT_FINITE, passing=False)
                continue
            reply = Completion(text=row.answer, finish=STOP if row.finished else LENGTH, refusal="", served="")
            cache.add(stored_verdict(key, reply, self.identity, self._config.max_tokens))
        return failed


def _sample(key: str, about: Question) -> Sample:
    message = user_message(about.question, about.truth, about.answer)
    return Sample(question_id=key, image_id=key, question=message, answer="", images=())
