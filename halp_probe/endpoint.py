"""Ask an OpenAI-compatible endpoint (`POST {url}/chat/completions`): paced, retried, the key kept out of every text."""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from halp_probe.completion import Completion, ErrorBody, NoReply, read_body, read_error
from halp_probe.errors import InputError
from halp_probe.refused_parameters import AcceptedParameters, changed_settings, is_refused

if TYPE_CHECKING:
    import openai

KEY_VARIABLE = "OPENAI_API_KEY"
_LONGEST_WAIT = 60.0  # seconds between two attempts, even if the server asks for more
_SHORTEST_KEY = 8  # characters; a shorter "key" of a local server is not secret and may be any word

_log = logging.getLogger(__name__)


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
    optional: settings that are left out where the model refuses them, such as `temperature`; `parameters` tells.
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
        optional: Collection[str] = (),
    ) -> None:
        self.stop = threading.Event()
        self._model = model
        self._flags = flags
        self._tries = tries
        self._first_wait = first_wait
        self._pace = pace
        self.parameters = AcceptedParameters(optional)
        self._key = os.environ.get(KEY_VARIABLE, "").strip()  # a line break from a file would end up in an error
        self._client = _client(url, self._key, timeout, flags)

    def ask(self, messages: Sequence[Mapping[str, Any]], **settings: Any) -> Completion | NoReply:
        """Return the model's reply to a conversation; `settings` are those of the request, such as `temperature`.

        Raises StopAsking after `stop`, and the flags' error where another attempt is useless: a wrong key, model or
        address, a temperature that the model refuses.
        """
        failed = NoReply(reason="never asked", passing=True)
        for attempt in range(self._tries):
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
        """Send one request, again where the model refuses parameters that can be sent otherwise.

        Return the result, and the seconds that the server asks us to wait.
        """
        changes: dict[str, str | None] = {}
        while True:
            sent = changed_settings(self.parameters.apply(settings), changes)
            answer, after = self._send(messages, sent)
            change = self.parameters.change(answer, sent) if isinstance(answer, ErrorBody) else {}
            if not change:
                break
            changes |= change
        if isinstance(answer, Completion) and changes:
            self.parameters.remember(changes)
            if left_out := [name for name, other in changes.items() if other is None]:
                _log.warning("The model %s refuses %s, which is left out.", self._model, ", ".join(left_out))
        return (self._read_error(answer, sent) if isinstance(answer, ErrorBody) else answer), after

    def _send(
        self, messages: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
    ) -> tuple[Completion | NoReply | ErrorBody, float]:
        import openai

        self._wait(self._pace.delay() if self._pace is not None else 0.0)
        try:
            create: Any = self._client.chat.completions.with_raw_response.create  # typed for literals only
            raw = create(model=self._model, messages=messages, **settings)
            return read_body(self.redact(raw.text)), _retry_after(raw.headers)
        except openai.APITimeoutError:
            return NoReply(reason="no reply in time", passing=True), 0.0
        except openai.APIConnectionError as error:
            return NoReply(reason="no connection", passing=True, detail=self.redact(str(error.__cause__ or error))), 0.0
        except openai.APIStatusError as error:
            body = read_error(error.body or error.response.text)
            told = replace(body, status=error.status_code, message=self.redact(body.message))
            return told, _retry_after(error.response.headers)

    def _read_error(self, error: ErrorBody, sent: Mapping[str, Any]) -> NoReply:
        status, detail, flags = error.status, error.message, self._flags
        if status == 401:
            raise flags.error(f"{flags.who} requires a key ({detail}); set {KEY_VARIABLE}")
        if status == 404:
            raise flags.error(
                f"{flags.who} does not know the model {self._model!r} or this address ({detail}); check "
                f"{flags.model}, and {flags.url}, which mostly ends in /v1"
            )
        if "temperature" in sent and is_refused("temperature", error):
            raise flags.error(
                f"{flags.who} refuses `temperature` {sent['temperature']} for the model {self._model!r} ({detail}); "
                "pass `temperature` 1 to let it sample as it does, or ask another model"
            )
        reason = "an error without a code" if status is None else f"HTTP {status}"
        passing = status is None or status in (408, 409, 429) or status >= 500
        return NoReply(reason=reason, passing=passing, detail=detail)


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


def _client(url: str, key: str, timeout: float, flags: EndpointFlags) -> openai.OpenAI:
    try:
        import openai
    except ModuleNotFoundError as error:
        if error.name != "openai":
            raise
        needed = f"{flags.needs} needs the openai client; run: pip install 'halp_probe[{flags.extra}]'"
        raise flags.error(needed) from error
    return openai.OpenAI(base_url=url, api_key=key or "none", timeout=timeout, max_retries=0)


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds to wait that a server asks for, in seconds or as a date, which its own clock is told by."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value or 0)
    except ValueError:
        seconds = _seconds_until(value, headers.get("date"))
    return 0.0 if math.isnan(seconds) else seconds


def _seconds_until(date: str, now: str | None) -> float:
    try:
        until = parsedate_to_datetime(date).timestamp()
        return until - (time.time() if now is None else parsedate_to_datetime(now).timestamp())
    except (ValueError, OverflowError):  # nonsense: our own wait applies
        return 0.0
