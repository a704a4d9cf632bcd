"""One answer to learn from the answers of several people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def majority(answers: Iterable[str]) -> str | None:
    """The most frequent answer, as it was written first, without space around it; of equals the one that came first.

    Case and outer space make no difference, blank answers do not count. None where there is no answer.
    """
    written = [answer.strip() for answer in answers if answer.strip()]
    votes = Counter(answer.lower() for answer in written)  # in the order of their first appearance
    if not votes:
        return None
    most = max(votes, key=votes.__getitem__)
    return next(answer for answer in written if answer.lower() == most)
