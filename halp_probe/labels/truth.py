"""Answers that a ground truth accepts: one text, several ("a; b", a JSON or Python list), or none at all."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter

from halp_probe.labels.normalise import bare, plain

_UNANSWERABLE = re.compile(
    r"\W*(?:un|not )answerable\W*|\W*unsuitable(?: image)?\W*|\W*n/a\W*|\W*not applicable\W*|\W*unknown\W*"
    r"|\W*(?:it )?(?:can(?:not|'t| not)|could not) (?:be )?(?:answer(?:ed)?|determined?|tell|known|say)"
    r"(?: (?:from|based on|in) (?:the|this) (?:image|picture|photo))?\W*"
    r"|\W*(?:not enough|insufficient) (?:information|evidence|context)\W*|\W*no answer\W*|无法回答|无法确定",
    re.IGNORECASE,
)
_SEPARATOR = re.compile(r"\s*;\s*")


def human_answers(truth: str) -> list[str] | None:
    """Return the texts of a JSON list, or of a list as Python writes it; None if `truth` is no such list."""
    text = truth.strip()
    if not text.startswith("["):
        return None
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError):
        loaded = _python_list(text)
    if not isinstance(loaded, list):
        return None
    texts = [str(item) for item in loaded if isinstance(item, str | int | float) and not isinstance(item, bool)]
    return texts if len(texts) == len(loaded) else None


def accepted_answers(truth: str) -> tuple[str, ...]:
    """Return the answers that a text accepts: the parts between semicolons, each once; the text itself without any."""
    parts = [part for part in _SEPARATOR.split(plain(truth)) if part]
    return tuple(dict.fromkeys(parts)) if len(parts) > 1 else (truth,)


def is_unanswerable(truth: str) -> bool:
    """Return whether a ground truth says that the question has no answer."""
    return _UNANSWERABLE.fullmatch(plain(truth)) is not None


def majority(humans: list[str]) -> str:
    """Return the answer that most of the humans gave, the first of several, as they wrote it."""
    counts = Counter(map(bare, humans))
    most = max(counts.values())
    return next(human for human in humans if counts[bare(human)] == most)


def _python_list(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
