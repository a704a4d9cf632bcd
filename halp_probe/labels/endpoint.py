"""Ask an OpenAI-compatible endpoint (`POST {url}/chat/completions`): paced, retried, the key kept out of every text."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from halp_probe.labels.judge_prompt import PROMPT, TEMPERATURE, Reply
from halp_probe.labels.table import LabelError

if TYPE_CHECKING:
    import openai

KEY_VARIABLE = "OPENAI_API_KEY"
_LONGEST_WAIT = 60.0  # seconds between two tries, also where the server asks for more
_SHORTEST_KEY = 8  # characters; a shorter "key" of a local server is no secret and may be any word


class Stopped(Exception):
    """The run is ending; nothing more is asked."""


@dataclass(frozen=True)
class Failed:
    """No reply. `passing`: it may work later (overload, time-out, no connection); `detail`: the server's own words."""

    reason: str
    passing: bool
    detail: str = ""


class Pace:
    """At most `rate` starts a second, evenly spaced, over all threads."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._gap = 1 / rate
        self._clock = clock
        self._next = clock()
        self._lock = threading.Lock()

    def delay(self) -> float:
        """Seconds to wait before the start that this call takes."""
        with self._lock:
            now = self._clock()
            start = max(now, self._next)
            self._next = start + self._gap
            return start - now


class Endpoint:
    """One model at one endpoint; `ask` may be called from several threads, `stop` makes all of them give up.

    url: up to and with the version, such as http://localhost:8000/v1.
    timeout: seconds for one reply; tries: for one question; first_wait: seconds before the second try, doubled each
    time, with jitter; a server's Retry-After is obeyed up to a minute.
    """

    def __init__(
        self, url: str, model: str, *, max_tokens: int, timeout: float, tries: int, first_wait: float, pace: Pace
    ) -> None:
        self.stop = threading.Event()
        self._model = model
        self._max_tokens = max_tokens
        self._tries = tries
        self._first_wait = first_wait
        self._pace = pace
        self._key = os.environ.get(KEY_VARIABLE, "").strip()  # a line break from a file would end up in an error
        self._client = _client(url, self._key, timeout)

    def ask(self, text: str) -> Reply | Failed:
        """The model's reply to `text` after PROMPT. Raises Stopped after `stop`, LabelError where asking is useless."""
        failed = Failed("never asked", passing=True)
        for attempt in range(self._tries):
            self._wait(self._pace.delay())
            answer, after = self._once(text)
            if isinstance(answer, Reply) or not answer.passing:
                return answer
            failed = answer
            if attempt + 1 < self._tries:
                doubled = self._first_wait * 2**attempt * random.uniform(0.75, 1.25)
                self._wait(min(max(after, doubled), _LONGEST_WAIT))
        return Failed(f"{failed.reason} in {self._tries} tries", passing=True, detail=failed.detail)

    def redacted(self, text: str) -> str:
        """`text` without the key, should a server repeat it."""
        return text.replace(self._key, "[key]") if len(self._key) >= _SHORTEST_KEY else text

    def _wait(self, seconds: float) -> None:
        if self.stop.wait(max(seconds, 0.0)):
            raise Stopped

    def _once(self, text: str) -> tuple[Reply | Failed, float]:
        """What one request gives, and the seconds that the server wants us to wait."""
        import openai

        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=self._model,
                messages=[{"role": "system", "content": PROMPT}, {"role": "user", "content": text}],
                temperature=TEMPERATURE,
                max_tokens=self._max_tokens,
            )
            return read_body(self.redacted(raw.text)), 0.0
        except openai.APITimeoutError:
            return Failed("no reply in time", passing=True), 0.0
        except openai.APIConnectionError as error:
            return Failed("no connection", passing=True, detail=self.redacted(str(error.__cause__ or error))), 0.0
        except openai.APIStatusError as error:
            return self._refused(error), _retry_after(error)

    def _refused(self, error: openai.APIStatusError) -> Failed:
        status, detail = error.status_code, self.redacted(error.message)
        if status == 401:
            raise LabelError(f"the judge's endpoint wants a key ({detail}); set {KEY_VARIABLE}") from None
        if status == 404:
            raise LabelError(
                f"the judge's endpoint knows no model {self._model!r}, or not this address ({detail}); check "
                "--judge-model, and --judge-url, which mostly ends in /v1"
            ) from None
        return Failed(f"HTTP {status}", passing=status in (408, 409, 429) or status >= 500, detail=detail)


def read_body(text: str) -> Reply | Failed:
    """The reply in a response's body; Failed if the body is no chat completion."""
    try:
        body: Any = json.loads(text)
        choice = body["choices"][0]
        message = choice["message"]
        parts = (message.get("content"), choice.get("finish_reason"), message.get("refusal"), body.get("model"))
    except (ValueError, LookupError, TypeError, AttributeError):
        return Failed("HTTP 200, but no chat completion", passing=False, detail=text[:200])
    words = ["" if part is None else part for part in parts]
    if not all(isinstance(word, str) for word in words):
        return Failed("HTTP 200, but no chat completion", passing=False, detail=text[:200])
    return Reply(*words)


def checked_url(url: str) -> str:
    """`url`, or LabelError if no endpoint can be there."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LabelError(f"--judge-url {url!r} is no address; write it in full, such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query:
        raise LabelError(f"--judge-url must hold no name, password or query; the key goes into {KEY_VARIABLE}")
    return url


def _client(url: str, key: str, timeout: float) -> openai.OpenAI:
    try:
        import openai
    except ModuleNotFoundError as error:
        if error.name != "openai":
            raise
        raise LabelError("--judge needs the openai client; run: pip install 'halp_probe[judge]'") from error
    return openai.OpenAI(base_url=url, api_key=key or "none", timeout=timeout, max_retries=0)


def _retry_after(error: openai.APIStatusError) -> float:
    try:
        return float(error.response.headers.get("retry-after", 0))
    except ValueError:  # a date, or nonsense: our own waiting must do
        return 0.0
