"""Fixed folds: what belongs together gets a unit, a unit its fold, and all folds together a hash to compare.

A unit's fold is drawn from its name alone, so that it stays the same whatever other rows there are, in whatever order
and on whatever machine; the folds are of about one size, not of exactly one. Legend: N questions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Sequence

FOLDS = 5


def units(tied: Sequence[Sequence[str]]) -> list[str]:
    """Return the unit [N] of each question: questions that share a name, also through others, are in one unit.

    `tied`: for each question the names of what it belongs to. A unit is called by the first in the alphabet of the
    names that its questions have in the first place, which therefore should be the most lasting: the pair, not the
    picture.
    """
    root: dict[Hashable, Hashable] = {}

    def find(name: Hashable) -> Hashable:
        while root.setdefault(name, name) != name:
            root[name] = name = root[root[name]]
        return name

    for names in tied:
        for other in names[1:]:
            root[find(other)] = find(names[0])
    called: dict[Hashable, str] = {}
    for names in tied:
        unit = find(names[0])
        called[unit] = min(called.get(unit, names[0]), names[0])
    return [called[find(names[0])] for names in tied]


def fold_of(salt: str, unit: str) -> int:
    """Return the fold of a unit, 0 to 4: the remainder of the SHA-256 of the two lines `salt` and `unit`."""
    return int.from_bytes(hashlib.sha256(f"{salt}\n{unit}".encode()).digest(), "big") % FOLDS


def split_hash(question_ids: Iterable[str], folds: Iterable[str]) -> str:
    """Return the hash of a split: SHA-256 of its lines `question_id TAB fold`, sorted; in whatever order they come."""
    lines = sorted(f"{question_id}\t{fold}\n" for question_id, fold in zip(question_ids, folds, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
