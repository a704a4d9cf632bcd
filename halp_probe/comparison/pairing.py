"""Pairs of rows from two folders of shards: the same questions on the same images, read at the same tokens.

Anything else would give numbers about the tables and not about the models, so it is refused. Legend: N paired rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from halp_probe.errors import InputError
from halp_probe.shards.reader import Shards
from halp_probe.state_identity import PAIRED, StateIdentity

_READ_AT = ("vision", "query", "question_end")
_POSITIONS = ("prompt_tokens", *(f"token_{what}/{at}" for what in ("index", "id") for at in _READ_AT))


class PairError(InputError):
    """Error for two folders that cannot be compared; the message names the difference."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Rows of two folders, matched.

    `rows_a` and `rows_b` [N] int are the places of each paired question in the two folders, in A's order.
    """

    a: Shards
    b: Shards
    rows_a: np.ndarray
    rows_b: np.ndarray

    def __len__(self) -> int:
        return len(self.rows_a)

    @cached_property
    def identities(self) -> tuple[StateIdentity, StateIdentity]:
        """Identities of the states in A and in B."""
        return StateIdentity.of_shards(self.a.attributes), StateIdentity.of_shards(self.b.attributes)

    @property
    def question_ids(self) -> list[str]:
        """Ids of the N paired questions."""
        return [self.a.question_ids[row] for row in self.rows_a]

    @property
    def representations(self) -> tuple[str, ...]:
        """Representations that both folders have, in reading order."""
        return tuple(name for name in self.a.representations if name in self.b.representations)

    def both_have(self, column: str) -> bool:
        """Check that both folders have a column."""
        return self.a.has(column) and self.b.has(column)

    def vectors(self, representation: str) -> tuple[np.ndarray, np.ndarray]:
        """Return [N, D] and [N, E] float32; a row of NaN is a sample without this vector."""
        a, b = self.a.vectors(representation), self.b.vectors(representation)
        return _take(a, self.rows_a), _take(b, self.rows_b)

    def texts(self, column: str) -> tuple[list[str], list[str]]:
        """Return N and N strings of a column."""
        a, b = self.a.text(column), self.b.text(column)
        return [a[row] for row in self.rows_a], [b[row] for row in self.rows_b]

    def numbers(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Return [N] and [N] numbers of a column."""
        return self.a.numbers(column)[self.rows_a], self.b.numbers(column)[self.rows_b]

    @cached_property
    def image_column(self) -> str:
        """Column that identifies an image: the hash of its file, or else its name; "" where neither is known."""
        candidates = [name for name in ("image_sha256", "image_id") if self.both_have(name)]
        return next((name for name in candidates if all(map(all, self.texts(name)))), "")

    @cached_property
    def images(self) -> np.ndarray:
        """Codes [N], equal for rows of the same image; a different one for each row if images cannot be identified."""
        return np.array(self.texts(self.image_column)[0]) if self.image_column else np.arange(len(self))


def pair(a: Shards, b: Shards, *, common_only: bool = False) -> Pair:
    """Pair the rows by question id.

    Raises PairError when a question is in one folder alone (`common_only` leaves it out), when a question's text,
    image or token positions differ or the prompts do, or when there is no representation in common.
    """
    if {path.resolve() for path in a.files} & {path.resolve() for path in b.files}:
        raise PairError(f"{a.files[0].parent} would be compared with itself; name two folders")
    row_of_b = {question_id: row for row, question_id in enumerate(b.question_ids)}
    rows_a = [row for row, question_id in enumerate(a.question_ids) if question_id in row_of_b]
    rows_b = [row_of_b[a.question_ids[row]] for row in rows_a]
    found = Pair(a=a, b=b, rows_a=np.array(rows_a, dtype=np.intp), rows_b=np.array(rows_b, dtype=np.intp))
    if not rows_a:
        raise PairError(
            f"no question in common: A's first is {a.question_ids[0]!r}, B's {b.question_ids[0]!r}; "
            "extract both from the same table"
        )
    if (alone := describe_unpaired(found)) and not common_only:
        raise PairError(f"{alone}; extract these too, or pass `common_only` to leave them out")
    if not found.representations:
        raise PairError(
            f"no representation in common: A has {', '.join(a.representations)}; B has {', '.join(b.representations)}; "
            "extract both with the same `layers`"
        )
    _check_prompts(found)
    _check_rows(found)
    return found


def describe_unpaired(pair: Pair) -> str:
    """Name the questions that only one folder has, in words; "" when there are none."""
    parts = []
    for name, shards, other in (("A", pair.a, pair.b), ("B", pair.b, pair.a)):
        known = set(other.question_ids)
        alone = [question_id for question_id in shards.question_ids if question_id not in known]
        if alone:
            parts.append(
                f"{len(alone)} of {len(shards.question_ids)} questions are in {name} alone (first {alone[0]!r})"
            )
    return " and ".join(parts)


def _check_prompts(pair: Pair) -> None:
    a, b = pair.identities
    if not (a.complete and b.complete):
        return  # files of other HALP code do not say
    if found := a.differences(b, PAIRED):
        raise PairError(
            f"{'; '.join(each.between('in A', 'in B') for each in found)}, so the models saw different prompts or "
            "were read at different places; extract both with the same task, processor, chat template and options"
        )


def _check_rows(pair: Pair) -> None:
    """Check for the same texts, images and positions; the error names the first difference."""
    for column in ("question", pair.image_column):
        if column and pair.both_have(column):
            _check_equal(pair, column, *pair.texts(column), remedy="extract both from the same table and images")
    for column in _POSITIONS:
        if pair.both_have(column):
            a, b = pair.numbers(column)
            remedy = "these models' prompts have different tokens, so their states cannot be paired"
            _check_equal(pair, column, a.tolist(), b.tolist(), remedy=remedy)


def _check_equal(pair: Pair, column: str, a: Sequence[str | int], b: Sequence[str | int], *, remedy: str) -> None:
    differing = [row for row, (first, second) in enumerate(zip(a, b, strict=True)) if first != second]
    if differing:
        row = differing[0]
        raise PairError(
            f"{column} differs in {len(differing)} of {len(pair)} questions; {pair.question_ids[row]!r} has "
            f"{a[row]!r} in A and {b[row]!r} in B: {remedy}"
        )


def _take(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return [N, D]; no copy where all rows are taken in their order."""
    return vectors if np.array_equal(rows, np.arange(len(vectors))) else vectors[rows]
