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
_LONGEST_WAIT = 60.0  # seconds between two attempts, even if the server asks for more
_MAX_SHOWN = 200  # characters of an unexpected body
_SHORTEST_KEY = 8  # characters; a shorter "key" of a local server is not secret and may be any word


class StopAsking(Exception):
    """Signal that the run is ending and no more requests are sent."""


@dataclass(frozen=True, kw_only=True)
class EndpointFlags:
    """Names that the caller uses for things, for error messages, and the class of these errors."""

    who: str  # the endpoint, as "the judge's endpoint"
    url: str  # the flag of its address
    model: str  # the flag of the model's name
    needs: str  # the flag that needs the openai client
    extra: str  # the extra of the installation that brings it
    error: type[InputError] = InputError


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One reply of an endpoint. `finish`: why it ended ("stop", "length", …); `served`: the model it names, or ""."""

    text: str
    finish: str
    refusal: str
    served: str
    tokens: int | None = None  # of the reply; None where the endpoint does not say


@dataclass(frozen=True, kw_only=True)
class NoReply:
    """A request without a reply. `passing`: it may work later (overload, time-out, no connection).

    `detail` is the server's own message.
    """

    reason: str
    passing: bool
    detail: str = ""


class Pace:
    """A limit of `rate` starts a second, evenly spaced, over all threads."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._gap = 1 / rate
        self._clock = clock
        self._next = clock()
        self._lock = threading.Lock()

    def delay(self) -> float:
        """Reserve the next start, and return the seconds to wait for it."""
        with self._lock:
            now = self._clock()
            start = max(now, self._next)
            self._next = start + self._gap
            return start - now


class Endpoint:
    """One model at one endpoint; `ask` may be called from several threads, and `stop` makes all of them give up.

    url: up to and with the version, such as http://localhost:8000/v1.
    timeout: seconds for one reply; tries: attempts for one question; first_wait: seconds before the second attempt,
    doubled each time, with jitter; a server's Retry-After is obeyed up to a minute; pace: None = no limit.
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

    def ask(self, messages: Sequence[Mapping[str, Any]], **settings: Any) -> Completion | NoReply:
        """Return the model's reply to a conversation; `settings` are those of the request, such as `temperature`.

        Raises StopAsking after `stop`, and the flags' error where another attempt is useless: a wrong key, model or
        address.
        """
        failed = NoReply(reason="never asked", passing=True)
        for attempt in range(self._tries):
            self._wait(self._pace.delay() if self._pace is not None else 0.0)
            answer, after = self._try_once(messages, settings)
            if isinstance(answer, Completion) or not answer.passing:
                return answer
            failed = answer
            if attempt + 1 < self._tries:
                doubled = self._first_wait * 2**attempt * random.uniform(0.75, 1.25)
                self._wait(min(max(after, doubled), _LONGEST_WAIT))
        return NoReply(reason=f"{failed.reason} in {self._tries} tries", passing=True, detail=failed.detail)

    def redact(self, text: str) -> str:
        """Return `text` without the key, in case a server repeats it."""
        return text.replace(self._key, "[key]") if len(self._key) >= _SHORTEST_KEY else text

    def _wait(self, seconds: float) -> None:
        if self.stop.wait(max(seconds, 0.0)):
            raise StopAsking

    def _try_once(
        self, messages: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
    ) -> tuple[Completion | NoReply, float]:
        """Send one request; return its result, and the seconds that the server asks us to wait."""
        import openai

        try:
            create: Any = self._client.chat.completions.with_raw_response.create  # typed for literals only
            raw = create(model=self._model, messages=messages, **settings)
            return read_body(self.redact(raw.text)), 0.0
        except openai.APITimeoutError:
            return NoReply(reason="no reply in time", passing=True), 0.0
        except openai.APIConnectionError as error:
            return NoReply(reason="no connection", passing=True, detail=self.redact(str(error.__cause__ or error))), 0.0
        except openai.APIStatusError as error:
            return self._read_refusal(error), _retry_after(error)

    def _read_refusal(self, error: openai.APIStatusError) -> NoReply:
        status, detail, flags = error.status_code, self.redact(_server_message(error)), self._flags
        if status == 401:
            raise flags.error(f"{flags.who} requires a key ({detail}); set {KEY_VARIABLE}") from None
        if status == 404:
            raise flags.error(
                f"{flags.who} does not know the model {self._model!r} or this address ({detail}); check "
                f"{flags.model}, and {flags.url}, which mostly ends in /v1"
            ) from None
        return NoReply(reason=f"HTTP {status}", passing=status in (408, 409, 429) or status >= 500, detail=detail)


def read_body(text: str) -> Completion | NoReply:
    """Parse a response's body into the reply, without the model's thinking where the server separates that.

    Return NoReply if the body is not a chat completion.
    """
    try:
        body: Any = json.loads(text)
        choice = body["choices"][0]
        message = choice["message"]
        parts = (message.get("content"), choice.get("finish_reason"), message.get("refusal"), body.get("model"))
    except (ValueError, LookupError, TypeError, AttributeError):
        return NoReply(reason="HTTP 200, but no chat completion", passing=False, detail=text[:_MAX_SHOWN])
    words = ["" if part is None else part for part in parts]
    if not all(isinstance(word, str) for word in words):
        return NoReply(reason="HTTP 200, but no chat completion", passing=False, detail=text[:_MAX_SHOWN])
    content, finish, refusal, served = (word.encode(errors="replace").decode() for word in words)  # no lone surrogates
    return Completion(text=content, finish=finish, refusal=refusal, served=served, tokens=_tokens(body))


def check_url(url: str, flags: EndpointFlags) -> str:
    """Return `url`. Raises the flags' error if it cannot be the address of an endpoint."""
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket that is not closed
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise flags.error(f"{flags.url} {url!r} is not an address; write it in full, such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query:
        raise flags.error(f"{flags.url} must not hold a name, password or query; the key goes into {KEY_VARIABLE}")
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


def _server_message(error: openai.APIStatusError) -> str:
    """Return the server's message: the client shows it only if it stands in one certain field."""
    body = error.body
    message = body.get("message") or body.get("detail") if isinstance(body, dict) else None
    return message if isinstance(message, str) else error.response.text[:_MAX_SHOWN]


def _retry_after(error: openai.APIStatusError) -> float:
    try:
        seconds = float(error.response.headers.get("retry-after", 0))
    except ValueError:  # a date, or nonsense: our own wait applies
        return 0.0
    return 0.0 if math.isnan(seconds) else seconds
