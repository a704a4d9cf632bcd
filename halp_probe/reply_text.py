"""The part of a reply that answers: without thinking, without a code fence."""

from __future__ import annotations

import re

CUT_OFF = "was cut off at the token limit"  # why a reply that is not finished counts as none

_BEGIN, _END = "<think>", "</think>"

# Only one fence around everything; a language stands on the fence's line, and "json" may stand before the brace.
_FENCED = re.compile(r"```(?:[A-Za-z]*[ \t]*\r?\n|json\b)?((?:(?!```).)*)```", re.DOTALL)


def after_thinking(reply: str) -> str | None:
    """What follows the last `</think>`, without outer space; None where the thinking never ends."""
    said = _after_the_last(reply)
    return None if _BEGIN in said else said.strip()


def without_thinking(reply: str) -> str:
    """What follows the last `</think>`, up to a `<think>` that never ends."""
    return _after_the_last(reply).partition(_BEGIN)[0]


def without_fence(text: str) -> str:
    """What a code fence around the whole text holds; any other text as it is."""
    fenced = _FENCED.fullmatch(text.strip())
    return fenced[1].strip() if fenced else text


def _after_the_last(reply: str) -> str:
    return reply.rpartition(_END)[2]
