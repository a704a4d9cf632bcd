"""Majority answer of several people, to learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def majority(answers: Iterable[str]) -> str | None:
    """Return the most frequent answer, stripped, as it was first written; of equals the one that came first.

    Case and outer space are ignored, blank answers do not count. None where there is no answer.
    """
    written = [answer.strip() for answer in answers if answer.strip()]
    votes = Counter(answer.lower() for answer in written)  # in the order of their first appearance
    if not votes:
        return None
    most = max(votes, key=votes.__getitem__)
    return next(answer for answer in written if answer.lower() == most)
