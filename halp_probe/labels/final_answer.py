r"""Texts that an answer declares to be its answer: \boxed{…}, "Final answer: …", "The answer is …"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from halp_probe.labels.negation import NEGATORS
from halp_probe.labels.normalise import words_of

_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
_IS = r"\s*(?:is\b\s*:?|would be\b|[:=]|\n)\s*(?:that\b\s*)?"
_FINAL = re.compile(rf"\bfinal answer{_IS}", re.IGNORECASE)
_ANSWER = re.compile(
    r"(?:^|\n)[ \t]*(?:the |my |short |correct )?(?:answer|response|result)\s*[:=]\s*"
    rf"|\b(?:the|my) (?:correct )?answer{_IS}"
    r"|(?:^|\n)[ \t]*(?:réponse|respuesta|antwort|答案)\s*(?:finale?\s*)?[::是为]\s*",
    re.IGNORECASE,
)
_END = re.compile(r"\n|(?<=[.!?。])[\"')\]]*(?:\s+|$)")


def final_answers(answer: str) -> tuple[str, ...]:
    """Return the texts that a clean answer declares, by its strongest kind of declaration; () if it declares none.

    The strongest is a box, then "final answer", then "the answer is" and "Answer:".
    """
    for declared in (_boxed(answer), _after(_FINAL, answer), _after(_ANSWER, answer)):
        found = tuple(dict.fromkeys(declared))
        if found:
            return found
    return ()


def _boxed(answer: str) -> Iterator[str]:
    for match in _BOXED.finditer(answer):
        depth, place = 1, match.end()
        while place < len(answer) and depth:
            depth += {"{": 1, "}": -1}.get(answer[place], 0)
            place += 1
        if not depth and (inner := answer[match.end() : place - 1].strip()):
            yield inner


def _after(marker: re.Pattern[str], answer: str) -> Iterator[str]:
    for match in marker.finditer(answer):
        payload = answer[match.end() :].lstrip()
        stop = _END.search(payload)
        said = payload[: stop.start()] if stop else payload
        if said.strip() and not NEGATORS.intersection(words_of(_before(answer, match))):
            yield said.strip()


def _before(answer: str, match: re.Match[str]) -> str:
    """Return the words of the sentence before a declaration: "it is not true that the answer is"."""
    return re.split(r"[.!?\n;,]", answer[max(0, match.start() - 80) : match.start()])[-1]
