"""Judge model at an endpoint: asked over HTTP, several texts at once, each verdict kept as it arrives."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from halp_probe.asking import Patience, ask_all
from halp_probe.completion import NoReply
from halp_probe.endpoint import Endpoint, Pace
from halp_probe.labels.judge_config import FLAGS, JudgeConfig, Question
from halp_probe.labels.judge_prompt import PROMPT, TEMPERATURE, user_message
from halp_probe.labels.table import LabelError
from halp_probe.labels.verdict_cache import VerdictCache, stored_verdict
from halp_probe.progress import Counter


class EndpointJudge:
    """Judge behind `config.url`; see `Judge`. Raises LabelError for a config without one."""

    def __init__(self, config: JudgeConfig) -> None:
        if config.url is None:
            raise LabelError("`judge_url` is missing: pass the judge's address, such as http://localhost:8000/v1")
        self._config, self._url = config, config.url

    @property
    def identity(self) -> str:
        """Name of the model; another server's model of the same name is not told from it."""
        return self._config.model

    @property
    def about(self) -> Mapping[str, Any]:
        """The path of the endpoint: no host, no key."""
        return {"endpoint_path": urlsplit(self._url).path}

    def ask(self, new: Mapping[str, Question], cache: VerdictCache, progress: Counter) -> dict[str, NoReply]:
        """Ask each; return the failures by key.

        If it ends early, also by Ctrl-C, the verdicts so far are in the cache. Raises LabelError without the openai
        client, if the endpoint wants a key or has no such model, and if it fails for ten questions in a row.
        """
        failed: dict[str, NoReply] = {}
        requests, patience = _Requests(self._config, self._url, cache), Patience()
        replies = ask_all(
            lambda key: requests.one(key, new[key]), new, requests.endpoint.stop, at_once=self._config.workers
        )
        with closing(replies):
            for answer in (answer for answers in replies for answer in answers):
                progress.advance(1, failed=answer.result is not None)
                if answer.result is None:
                    patience.note_reply()
                    continue
                failed[answer.item] = answer.result
                failed_before = cache.failed(answer.item)
                if not answer.result.passing:
                    cache.add_failure(answer.item, answer.result.reason)
                if patience.ends_with(answer.result, failed_before=failed_before):
                    raise LabelError(
                        f"the judge failed for {patience.describe('answers', answer.result)}; {patience.replies} new "
                        f"verdicts are kept in {cache.path}: fix the endpoint and run the same command again; answers "
                        "that fail a second time do not end it"
                    )
        return failed


class _Requests:
    """Requests of one run to the endpoint."""

    def __init__(self, config: JudgeConfig, url: str, cache: VerdictCache) -> None:
        self._config, self._cache = config, cache
        self.endpoint = Endpoint(
            url,
            config.model,
            FLAGS,
            timeout=config.timeout,
            tries=config.tries,
            first_wait=config.first_wait,
            pace=Pace(config.rate),
            optional=("temperature",),
        )

    def one(self, key: str, about: Question) -> NoReply | None:
        """Ask, and store the verdict here, in the thread that asks: it has been paid for, even if the run ends now."""
        message = user_message(about.question, about.truth, about.answer)
        messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": message}]
        reply = self.endpoint.ask(messages, temperature=TEMPERATURE, max_tokens=self._config.max_tokens)
        if isinstance(reply, NoReply):
            return reply
        left_out = ",".join(self.endpoint.parameters.left_out)
        self._cache.add(stored_verdict(key, reply, self._config.model, self._config.max_tokens, left_out=left_out))
        return None
