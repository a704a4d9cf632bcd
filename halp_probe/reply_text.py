"""Extract the answer from a reply: without thinking, without a code fence."""

from __future__ import annotations

import re

CUT_OFF = "was cut off at the token limit"  # why a reply that is not finished counts as none

# DeepSeek's and Qwen's tags, Mistral's, Kimi's
_BEGIN = re.compile(r"<think(?:ing)?>|\[THINK\]|◁think▷")
_END = re.compile(r"</think(?:ing)?>|\[/THINK\]|◁/think▷")

# Only one fence around everything; a language stands on the fence's line, and "json" may stand before the brace.
_FENCED = re.compile(r"```(?:[A-Za-z]*[ \t]*\r?\n|json\b)?((?:(?!```).)*)```", re.DOTALL)


def after_thinking(reply: str) -> str | None:
    """Return the text after the last end of thinking, stripped; None if the thinking never ends."""
    rest = _after_last_end(reply)
    return None if _BEGIN.search(rest) else rest.strip()


def without_thinking(reply: str) -> str:
    """Return the text after the last end of thinking, up to a beginning that never ends."""
    return _BEGIN.split(_after_last_end(reply), maxsplit=1)[0]


def without_fence(text: str) -> str:
    """Return the content of a code fence around the whole text; any other text unchanged."""
    fenced = _FENCED.fullmatch(text.strip())
    return fenced[1].strip() if fenced else text


def _after_last_end(reply: str) -> str:
    ends = [match.end() for match in _END.finditer(reply)]
    return reply[ends[-1] :] if ends else reply
