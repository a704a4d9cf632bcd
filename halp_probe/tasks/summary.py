"""Summaries of one image in replies: one line, not empty, with its objects numbered without a gap."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from halp_probe.labels.refusal import is_refusal
from halp_probe.reply_text import after_thinking, without_fence

IRRELEVANT = "无关图片"  # the whole summary of an image that has nothing to do with the check
_HEADER = re.compile(r"<DOMAIN=[^<>\n]*>[,，]\s*<TASK=[^<>\n]*>[ \t]*\r?\n")  # fine-tuned models begin with this line
_OF_THE_IMAGE = ("图片_1", "image_1")  # {"图片_1": "…"}: the value is the summary
_OBJECT_KEY = re.compile(r"(?:object|物体|对象)_?(\d{1,6})", re.IGNORECASE)
# "物体_2" where an item begins, "物体2:" anywhere; not "物体2个".
_NAMED = re.compile(
    r"(?:(?:^|[，,；;、。|｜])\s*(?:object|物体|对象)_(\d{1,6})(?!\d))|(?:object|物体|对象)[_ ]?(\d{1,6})\s*[:：]",
    re.IGNORECASE,
)
_COUNTED = re.compile(r"[(（]?(\d{1,6})([.．、)）:：])(?!\d)")  # "1. " at the line's beginning; not "1.5"
_CLAUSE = re.compile(r"[，,。.；;：:！!]")
_APOLOGY = re.compile(r"\W*(?:(?:i(?:'m| am) )?(?:very |so )?sorry|(?:非常|很)?(?:抱歉|对不起))\W*", re.IGNORECASE)
_TALK = re.compile(r"\b(?:i|i'm|we|you|your|my|me|it|this|that|please|policy|policies)\b|[我您你请]", re.IGNORECASE)
_SHOWN = 12  # numbers quoted of a wrong numbering


@dataclass(frozen=True)
class Problem:
    """Fault of a reply: `reason` in English for people, `hint` in Chinese for the model that is asked again."""

    reason: str
    hint: str


@dataclass(frozen=True)
class Summary:
    """Summary of an image; `text` is one line, "" where there is a problem."""

    text: str
    problem: Problem | None = None


@dataclass(frozen=True)
class _Object:
    """JSON object with all its pairs, repeated keys included."""

    pairs: tuple[tuple[str, object], ...]


def summary(reply: str) -> Summary:
    """Return the summary in a reply, or what is wrong with it; for any text, without raising.

    Only the text after the last `</think>` counts; a code fence around all of it, a first line "<DOMAIN=…>, <TASK=…>"
    and a JSON object that holds only the one image's text are removed. "无关图片" and JSON on one line are summaries.
    """
    said = after_thinking(reply)
    if said is None:
        return Summary("", Problem("its thinking never ends", "只写了思考，没有写出结果"))
    text = _HEADER.sub("", without_fence(said), count=1).strip()
    text = _text_of_the_image(text)
    problem = _line_problem(text) or _json_problem(text) or _numbering_problem(_numbers(text)) or _refusal_problem(text)
    return Summary("", problem) if problem else Summary(text)


def _text_of_the_image(text: str) -> str:
    parsed = _json_object(text)
    match parsed.pairs if parsed else ():
        case ((key, str(value)),) if key in _OF_THE_IMAGE:
            return value.strip()
    return text


def _line_problem(text: str) -> Problem | None:
    lines = text.splitlines()
    if not any(character.isalnum() for character in text):
        return Problem("empty" if not text else "holds no word", "没有写出内容")
    if len(lines) > 1:
        return Problem(f"has {len(lines)} lines, not one", f"写了{len(lines)}行，应当只写一行")
    if "```" in text:
        return Problem("holds a code fence", "写了代码块，应当只写一行文字")
    return None


def _json_problem(text: str) -> Problem | None:
    if not text.startswith("{"):
        return None
    parsed = _json_object(text)
    if parsed is None:
        return Problem("begins like JSON but is not JSON", "JSON不完整或格式有误")
    if not parsed.pairs:
        return Problem("is JSON without an object", "JSON里没有内容")
    match parsed.pairs:
        case ((key, _Object() as inner),) if key in _OF_THE_IMAGE:
            parsed = inner
    keys = [key for key, _ in parsed.pairs]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        return Problem(f"has the key {twice!r} twice", f"键“{twice}”重复")
    return _numbering_problem([int(found[1]) for key in keys if (found := _OBJECT_KEY.fullmatch(key))])


def _refusal_problem(text: str) -> Problem | None:
    """Find a refusal that describes nothing; a note on what is not visible among objects is none."""
    if not is_refusal(text):
        return None
    clauses = [clause for clause in _CLAUSE.split(text) if any(character.isalnum() for character in clause)]
    if all(is_refusal(clause) or _APOLOGY.fullmatch(clause) or _TALK.search(clause) for clause in clauses):
        return Problem("is a refusal", "没有描述图片，只说做不到")
    return None


def _json_object(text: str) -> _Object | None:
    if not text.startswith("{"):
        return None
    try:
        parsed = json.loads(text, object_pairs_hook=lambda pairs: _Object(tuple(pairs)))
    except (ValueError, RecursionError):  # ValueError: not JSON, or a number of thousands of digits
        return None
    return parsed if isinstance(parsed, _Object) else None


def _numbers(line: str) -> list[int]:
    """Return the numbers of the objects in a plain line, in order; empty where it does not number them."""
    if line.startswith("{"):
        return []
    first = _COUNTED.match(line)
    if first is None:
        return [int(found[1] or found[2]) for found in _NAMED.finditer(line)]
    further = rf"[\s，,；;。|｜][(（]?(\d{{1,6}}){re.escape(first[2])}(?!\d)"
    return [int(first[1]), *map(int, re.findall(further, line[first.end() :]))]


def _numbering_problem(numbers: Sequence[int]) -> Problem | None:
    if list(numbers) == list(range(1, len(numbers) + 1)):
        return None
    more = "…" if len(numbers) > _SHOWN else ""
    shown = [str(number) for number in numbers[:_SHOWN]]
    return Problem(
        f"numbers its objects {', '.join(shown)}{more}, not 1 to {len(numbers)}",
        f"物体编号是{'、'.join(shown)}{more}，应当从1到{len(numbers)}连续",
    )
