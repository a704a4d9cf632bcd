"""Read the body of a chat completion: the reply's text and why it ended, or what error stands in its place."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STOP, LENGTH, FILTERED = "stop", "length", "content_filter"  # the three ends of a reply
_MAX_SHOWN = 200  # characters of an unexpected body
_NO_COMPLETION = "HTTP 200, but no chat completion"

# Servers have many words for a whole reply's end (`eos_token`, `end_turn`, `stop_sequence`, none at all): it is any
# word that no pattern here finds.
_CUT = re.compile(r"length|max_|limit|exceed|truncat|incomplete", re.IGNORECASE)
_FILTERED = re.compile(r"filter|safety|refus|prohibit|blocklist|recitation|sensitive|moderat", re.IGNORECASE)
_ABNORMAL = re.compile(
    r"tool|function|abort|cancel|error|fail|time_?out|interrupt|pause|insufficient|malformed|overload", re.IGNORECASE
)

_TEXT_PARTS = ("text", "output_text", "")
_THINKING_PARTS = ("thinking", "redacted_thinking", "reasoning")

# What the code or the type of an error means where it is a word; the first that fits.
_WORDS = (
    (re.compile(r"api[_ ]key|authenticat|unauthori[sz]ed", re.IGNORECASE), 401),
    (re.compile(r"not[_ ]found", re.IGNORECASE), 404),
    (re.compile(r"rate[_ ]limit|too[_ ]many|overload|quota|throttl", re.IGNORECASE), 429),
    (re.compile(r"invalid|unsupported|context[_ ]length|bad[_ ]request", re.IGNORECASE), 400),
)


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One reply of an endpoint. `finish`: why it ended, STOP, LENGTH or FILTERED; `served`: the model's name, or ""."""

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


@dataclass(frozen=True, kw_only=True)
class ErrorBody:
    """Error that a body tells of. `status`: the HTTP status that it stands for; None: it names none that is known."""

    status: int | None
    message: str
    param: str = ""  # the parameter of the request that it is about


def read_body(text: str) -> Completion | NoReply | ErrorBody:
    """Parse a response's body into the reply, without the model's thinking where the server separates that.

    Return NoReply if the body is not a chat completion, or if the reply ended abnormally.
    """
    unreadable = NoReply(reason=_NO_COMPLETION, passing=False, detail=text[:_MAX_SHOWN])
    try:
        body: Any = json.loads(text)
    except ValueError:
        return unreadable
    if not isinstance(body, dict):
        return unreadable
    if (inner := _inner_error(body)) is not None:
        return inner
    try:
        choice = body["choices"][0]
        return _completion(choice, choice["message"], body)
    except _UnreadableError as error:
        return NoReply(reason=str(error), passing=False, detail=text[:_MAX_SHOWN])
    except (LookupError, TypeError, AttributeError):
        return unreadable


class _UnreadableError(Exception):
    """Signal a reply that holds no text to take."""


def _completion(choice: Any, message: Any, body: dict[str, Any]) -> Completion | NoReply:
    text, refused = _content(message.get("content"))
    words = [text, choice.get("finish_reason") or "", message.get("refusal") or refused, body.get("model") or ""]
    if not all(isinstance(word, str) for word in words):
        raise _UnreadableError(_NO_COMPLETION)
    text, finish, refusal, served = (word.encode(errors="replace").decode() for word in words)  # no lone surrogates
    if (end := _end(finish)) is None:
        return NoReply(reason=f"the server ended its reply with {finish!r}", passing=False)
    return Completion(text=text, finish=end, refusal=refusal, served=served, tokens=_tokens(body))


def _end(finish: str) -> str | None:
    """Return which of the three ends a finish reason means; None for one that leaves no whole answer."""
    if _FILTERED.search(finish):
        return FILTERED
    if _ABNORMAL.search(finish):
        return None
    return LENGTH if _CUT.search(finish) else STOP


def _content(content: Any) -> tuple[str, str]:
    """Return the text and the refusal in a message's content: a text, or a list of parts, joined without thinking."""
    if not isinstance(content, list):
        return ("" if content is None else content), ""
    texts, refusals = [], []
    for part in content:
        kind = "" if isinstance(part, str) else part.get("type") or ""
        if kind in _TEXT_PARTS:
            texts.append(part if isinstance(part, str) else part["text"])
        elif kind == "refusal":
            refusals.append(part["refusal"])
        elif kind not in _THINKING_PARTS:
            raise _UnreadableError(f"HTTP 200, but a part of type {kind!r} in the reply")
    return "".join(texts), "".join(refusals)


def _inner_error(body: dict[str, Any]) -> ErrorBody | None:
    """Return the error that stands in the place of choices, or inside the first; None where there is none."""
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    if first.get("error"):
        return read_error(first["error"])
    if choices:
        return None
    if body.get("error"):
        return read_error(body["error"], body)
    return read_error(body) if body.get("object") == "error" else None


def read_error(error: Any, around: Mapping[str, Any] | None = None) -> ErrorBody:
    """Read an error object or text; a code may stand in it or in the object `around` it, as a number or a word."""
    fields = error if isinstance(error, dict) else {"message": str(error)[:_MAX_SHOWN]}
    codes = [each.get(name) for each in (fields, around or {}) for name in ("code", "status")]
    words = [str(fields.get(name) or "") for name in ("code", "type")]
    known = [
        *(number for code in codes if (number := _number(code)) is not None),
        *(own for word in words for pattern, own in _WORDS if pattern.search(word)),
    ]
    told = (fields.get("message"), fields.get("detail"))
    message = next((each for each in told if isinstance(each, str)), json.dumps(error)[:_MAX_SHOWN])
    return ErrorBody(status=known[0] if known else None, message=message, param=str(fields.get("param") or ""))


def _number(code: Any) -> int | None:
    """Return an error's code as an HTTP status; None for a word, and for what is no status of an error."""
    if isinstance(code, bool) or not re.fullmatch(r"[45]\d\d", str(code)):
        return None
    return int(code)


def _tokens(body: dict[str, Any]) -> int | None:
    usage = body.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) else None
