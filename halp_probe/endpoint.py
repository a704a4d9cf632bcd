"""Ask an OpenAI-compatible endpoint (`POST {url}/chat/completions`): paced, retried, the key kept out of every text."""

from __future__ import annotations

import json
import math
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from halp_probe.errors import InputError

if TYPE_CHECKING:
    import openai

KEY_VARIABLE = "OPENAI_API_KEY"
_LONGEST_WAIT = 60.0  # seconds between two tries, also where the server asks for more
_SHOWN = 200  # characters of a body that is not what it should be
_SHORTEST_KEY = 8  # characters; a shorter "key" of a local server is no secret and may be any word


class Stopped(Exception):
    """The run is ending; nothing more is asked."""


@dataclass(frozen=True, kw_only=True)
class EndpointFlags:
    """What whoever asks calls things, for the texts of errors, and the error that they are."""

    who: str  # the endpoint, as "the judge's endpoint"
    url: str  # the flag of its address
    model: str  # the flag of the model's name
    needs: str  # the flag that needs the openai client
    extra: str  # of the installation that brings it
    error: type[InputError] = InputError


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One reply of an endpoint. `finish`: why it ended ("stop", "length", …); `served`: the model it names, or ""."""

    text: str
    finish: str
    refusal: str
    served: str
    tokens: int | None = None  # of the reply; None where the endpoint does not tell


@dataclass(frozen=True, kw_only=True)
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
    time, with jitter; a server's Retry-After is obeyed up to a minute; pace: None = as fast as it is asked.
    """

    def __init__(
        self,
        url: str,
        model: str,
        flags: EndpointFlags,
        *,
        timeout: float,
        tries: int,
        first_wait: float = 1.0,
        pace: Pace | None = None,
    ) -> None:
        self.stop = threading.Event()
        self._model = model
        self._flags = flags
        self._tries = tries
        self._first_wait = first_wait
        self._pace = pace
        self._key = os.environ.get(KEY_VARIABLE, "").strip()  # a line break from a file would end up in an error
        self._client = _client(url, self._key, timeout, flags)

    def ask(self, messages: Sequence[Mapping[str, Any]], **settings: Any) -> Completion | Failed:
        """The model's reply to a conversation; `settings` are the request's, as `temperature`.

        Raises Stopped after `stop`, and the flags' error where asking is useless: a wrong key, model or address.
        """
        failed = Failed(reason="never asked", passing=True)
        for attempt in range(self._tries):
            self._wait(self._pace.delay() if self._pace is not None else 0.0)
            answer, after = self._once(messages, settings)
            if isinstance(answer, Completion) or not answer.passing:
                return answer
            failed = answer
            if attempt + 1 < self._tries:
                doubled = self._first_wait * 2**attempt * random.uniform(0.75, 1.25)
                self._wait(min(max(after, doubled), _LONGEST_WAIT))
        return Failed(reason=f"{failed.reason} in {self._tries} tries", passing=True, detail=failed.detail)

    def redacted(self, text: str) -> str:
        """`text` without the key, should a server repeat it."""
        return text.replace(self._key, "[key]") if len(self._key) >= _SHORTEST_KEY else text

    def _wait(self, seconds: float) -> None:
        if self.stop.wait(max(seconds, 0.0)):
            raise Stopped

    def _once(
        self, messages: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
    ) -> tuple[Completion | Failed, float]:
        """What one request gives, and the seconds that the server wants us to wait."""
        import openai

        try:
            create: Any = self._client.chat.completions.with_raw_response.create  # its types want a literal each
            raw = create(model=self._model, messages=messages, **settings)
            return read_body(self.redacted(raw.text)), 0.0
        except openai.APITimeoutError:
            return Failed(reason="no reply in time", passing=True), 0.0
        except openai.APIConnectionError as error:
            return Failed(
                reason="no connection", passing=True, detail=self.redacted(str(error.__cause__ or error))
            ), 0.0
        except openai.APIStatusError as error:
            return self._refused(error), _retry_after(error)

    def _refused(self, error: openai.APIStatusError) -> Failed:
        status, detail, flags = error.status_code, self.redacted(_words(error)), self._flags
        if status == 401:
            raise flags.error(f"{flags.who} wants a key ({detail}); set {KEY_VARIABLE}") from None
        if status == 404:
            raise flags.error(
                f"{flags.who} knows no model {self._model!r}, or not this address ({detail}); check {flags.model}, "
                f"and {flags.url}, which mostly ends in /v1"
            ) from None
        return Failed(reason=f"HTTP {status}", passing=status in (408, 409, 429) or status >= 500, detail=detail)


def read_body(text: str) -> Completion | Failed:
    """The reply in a response's body, without what the model thought first where the server tells that apart.

    Failed if the body is no chat completion.
    """
    try:
        body: Any = json.loads(text)
        choice = body["choices"][0]
        message = choice["message"]
        parts = (message.get("content"), choice.get("finish_reason"), message.get("refusal"), body.get("model"))
    except (ValueError, LookupError, TypeError, AttributeError):
        return Failed(reason="HTTP 200, but no chat completion", passing=False, detail=text[:_SHOWN])
    words = ["" if part is None else part for part in parts]
    if not all(isinstance(word, str) for word in words):
        return Failed(reason="HTTP 200, but no chat completion", passing=False, detail=text[:_SHOWN])
    content, finish, refusal, served = (word.encode(errors="replace").decode() for word in words)  # no lone surrogates
    return Completion(text=content, finish=finish, refusal=refusal, served=served, tokens=_tokens(body))


def checked_url(url: str, flags: EndpointFlags) -> str:
    """`url`, or the flags' error if no endpoint can be there."""
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket that is not closed
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise flags.error(f"{flags.url} {url!r} is no address; write it in full, such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query:
        raise flags.error(f"{flags.url} must hold no name, password or query; the key goes into {KEY_VARIABLE}")
    return url


def _tokens(body: dict[str, Any]) -> int | None:
    usage = body.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) else None


def _client(url: str, key: str, timeout: float, flags: EndpointFlags) -> openai.OpenAI:
    try:
        import openai
    except ModuleNotFoundError as error:
        if error.name != "openai":
            raise
        needed = f"{flags.needs} needs the openai client; run: pip install 'halp_probe[{flags.extra}]'"
        raise flags.error(needed) from error
    return openai.OpenAI(base_url=url, api_key=key or "none", timeout=timeout, max_retries=0)


def _words(error: openai.APIStatusError) -> str:
    """The server's own: the client tells them only where they stand in one certain field."""
    body = error.body
    message = body.get("message") or body.get("detail") if isinstance(body, dict) else None
    return message if isinstance(message, str) else error.response.text[:_SHOWN]


def _retry_after(error: openai.APIStatusError) -> float:
    try:
        seconds = float(error.response.headers.get("retry-after", 0))
    except ValueError:  # a date, or nonsense: our own waiting must do
        return 0.0
    return 0.0 if math.isnan(seconds) else seconds
