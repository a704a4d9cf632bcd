"""Comparison of two folders of shards: what training did to each representation.

Legend: N rows, D and E widths of the representation in A and in B.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from halp_probe.bootstrap import Draws, Estimate, join_notes
from halp_probe.comparison.answers import AnswerChanges, answer_changes
from halp_probe.comparison.cka import linear_cka
from halp_probe.comparison.conditions import notes, other_architecture
from halp_probe.comparison.measures import DRAWS, mean_over_images, row_distances
from halp_probe.comparison.pairing import Pair
from halp_probe.shards.names import layer_of


@dataclass(frozen=True, kw_only=True)
class Movement:
    """Movement of one representation from A to B.

    `relative_l2` is the mean of |b − a| / |a| over rows, and `cosine` that of their cosine. `identical` counts the
    rows whose difference is exactly zero; None where vectors of A and B cannot be subtracted. A number that cannot
    be known is nan, and `note` says why.
    """

    representation: str
    rows: int
    images: int
    identical: int | None
    relative_l2: Estimate
    relative_l2_median: float
    relative_l2_max: float
    cosine: Estimate
    cosine_min: float
    cka: float
    note: str

    @property
    def position(self) -> str:
        """Position of the representation in the prompt."""
        return self.representation.split("/")[0]

    @property
    def layer(self) -> int | None:
        """Layer of the representation; None for the vision means."""
        return layer_of(self.representation)

    @property
    def unmoved(self) -> bool:
        """True if the difference is exactly zero in every row."""
        return self.rows > 0 and self.identical == self.rows


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Movements of all representations, in reading order, and changed answers.

    `answers` is None where a side has no answers; `notes` are what a reader must know.
    """

    rows: int
    images: int
    movements: tuple[Movement, ...]
    answers: AnswerChanges | None
    notes: tuple[str, ...]


def compare(pair: Pair, draws: Draws = DRAWS) -> Comparison:
    """Measure every representation that both folders have; two representations are in memory at a time."""
    answers, why = answer_changes(pair, draws)
    return Comparison(
        rows=len(pair),
        images=len(np.unique(pair.images)),
        movements=tuple(movement(pair, name, draws) for name in pair.representations),
        answers=answers,
        notes=(*notes(pair), *filter(None, [why])),
    )


def movement(pair: Pair, representation: str, draws: Draws = DRAWS) -> Movement:
    """Measure one representation from A to B.

    Rows without a finite vector on either side are left out and counted in the note.
    """
    a, b = pair.vectors(representation)
    finite = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)  # [N]
    if not finite.all():
        a, b = a[finite], b[finite]
    images = pair.images[finite]
    other_space = _other_space(pair, a, b)
    moved = None if other_space else row_distances(a, b)
    relative_l2, cosine = (moved.relative_l2, moved.cosine) if moved else 2 * (np.full(len(a), np.nan),)
    aligned = linear_cka(a, b, images, draws.seed)
    return Movement(
        representation=representation,
        rows=len(a),
        images=len(np.unique(images)),
        identical=int(moved.identical.sum()) if moved else None,
        relative_l2=mean_over_images(relative_l2, images, draws, low=0),
        relative_l2_median=_summarise(relative_l2, np.median),
        relative_l2_max=_summarise(relative_l2, np.max),
        cosine=mean_over_images(cosine, images, draws, low=-1, high=1),
        cosine_min=_summarise(cosine, np.min),
        cka=aligned.value,
        note=join_notes(_describe_lost(finite), other_space or _describe_zero_length(cosine), aligned.reason),
    )


def _other_space(pair: Pair, a: np.ndarray, b: np.ndarray) -> str:
    """Say why `a` [N, D] and `b` [N, E] cannot be subtracted; "" when they can."""
    if a.shape[1] != b.shape[1]:
        return f"only CKA: the width is {a.shape[1]} in A and {b.shape[1]} in B"
    differing = other_architecture(pair)
    return f"only CKA: {differing}" if differing else ""


def _describe_lost(finite: np.ndarray) -> str:
    lost = int((~finite).sum())
    return f"{lost} of {len(finite)} rows are left out: no finite vector on one side" if lost else ""


def _describe_zero_length(cosine: np.ndarray) -> str:
    count = int(np.isnan(cosine).sum())
    why = "a vector of length zero has no direction, and no distance is relative to it"
    return f"{count} rows have no cosine: {why}" if count else ""


def _summarise(values: np.ndarray, summary: Callable[[np.ndarray], np.floating]) -> float:
    known = values[np.isfinite(values)]
    return float(summary(known)) if len(known) else float("nan")
