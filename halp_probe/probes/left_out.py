"""Comparison of the samples that were left out with those that count.

Legend: M samples in the shards, N rows that count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from halp_probe.bootstrap import Draws, Estimate
from halp_probe.probes.features import ENTROPY, LabelledRows, ShardSource
from halp_probe.probes.judging.metrics import judge
from halp_probe.probes.judging.rows import Rows

FEWEST = 5  # samples left out for one reason, or of them with a label, that are worth comparing
FAR = 0.1  # difference of shares of a group that is worth telling
_MOST_DRAWS = 400


@dataclass(frozen=True, kw_only=True)
class GroupShare:
    """Share of one value of a column among the rows left out, and among those kept."""

    column: str
    value: str
    out: float
    kept: float


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Samples left out for one reason against the rows that count: what differs beyond chance.

    Chance is judged by a bootstrap over images, of the AUROC with which something tells the two apart: a share that
    is higher by d reaches (1 + d) / 2.
    """

    reason: str
    count: int
    labelled: int  # of them, with a label
    wrong: int  # of these, with label 1
    labels: Estimate | None  # AUROC of the label; None where it does not tell them apart
    shares: tuple[GroupShare, ...]  # for each group column the value whose share differs most
    doubt: Estimate | None  # AUROC of the first token's entropy; None where it does not tell them apart


def contrasts(
    shards: ShardSource, rows: LabelledRows, labels: Mapping[str, int | None], draws: Draws
) -> tuple[Contrast, ...]:
    """Compare the samples left out, by reason, if it is that of enough samples; `labels` are those of the study."""
    place = {question_id: row for row, question_id in enumerate(shards.question_ids)}
    by_reason: dict[str, list[int]] = {}
    for item in rows.left_out:
        by_reason.setdefault(item.reason, []).append(place[item.question_id])
    few = replace(draws, count=min(draws.count, _MOST_DRAWS))
    found = (
        _contrast(shards, rows, labels, reason, np.array(out), few)
        for reason, out in by_reason.items()
        if len(out) >= FEWEST
    )
    return tuple(each for each in found if each.labels or each.shares or each.doubt)


def _contrast(
    shards: ShardSource,
    rows: LabelledRows,
    labels: Mapping[str, int | None],
    reason: str,
    out: np.ndarray,
    draws: Draws,
) -> Contrast:
    index = np.concatenate([rows.index, out])  # [N + out]
    is_out = (np.arange(len(index)) >= len(rows.index)).astype(np.int64)  # [N + out]
    ids = [shards.question_ids[row] for row in index]
    label = np.array([np.nan if (each := labels.get(name)) is None else each for name in ids], dtype=np.float64)
    images = _images(shards, index)

    def told_apart(score: np.ndarray) -> Estimate | None:
        """Return the AUROC of being left out, if its interval does not hold chance."""
        known = np.isfinite(score)
        side = is_out[known]
        if side.sum() < FEWEST:
            return None
        own = Rows(y=side, fold=np.zeros(len(side)), images=images[known])
        found = judge({"": score[known]}, own, draws)[""].estimate
        return found if found.low > 0.5 or found.high < 0.5 else None

    furthest = [_furthest(column, np.asarray(shards.text(column))[index], is_out) for column in rows.groups]
    labelled = label[(is_out == 1) & np.isfinite(label)]
    return Contrast(
        reason=reason,
        count=len(out),
        labelled=len(labelled),
        wrong=int(labelled.sum()),
        labels=told_apart(label),
        shares=tuple(share for share, holds in furthest if abs(share.out - share.kept) >= FAR and told_apart(holds)),
        doubt=told_apart(shards.numbers(ENTROPY)[index].astype(np.float64)) if shards.has(ENTROPY) else None,
    )


def _furthest(column: str, values: np.ndarray, is_out: np.ndarray) -> tuple[GroupShare, np.ndarray]:
    """Return the value whose share differs most, and where it holds, as 0 and 1."""
    shares = [
        GroupShare(
            column=column,
            value=str(value),
            out=float((values[is_out == 1] == value).mean()),
            kept=float((values[is_out == 0] == value).mean()),
        )
        for value in np.unique(values)
    ]
    most = max(shares, key=lambda share: abs(share.out - share.kept))
    return most, (values == most.value).astype(np.float64)


def _images(shards: ShardSource, index: np.ndarray) -> np.ndarray:
    """Return codes of the rows' images; a row without a name of its image counts as an image of its own."""
    name = "image_sha256" if shards.has("image_sha256") else "image_id"
    texts = [shards.text(name)[row] or f"row {row}" for row in index]
    return np.unique(np.asarray(texts), return_inverse=True)[1]
