"""Join shards and labels by question id: which rows can be used, and why the others cannot.

Legend: M samples in the shards, N rows that are used, D width of a representation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from halp_probe.catalog.benchmark import DATASET
from halp_probe.catalog.folds import split_hash
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.fitting.splits import Folds
from halp_probe.probes.judging.rows import Rows
from halp_probe.probes.split_units import Likeness, further_columns, split_units

ENTROPY, LOGPROB = "first_token_entropy", "first_token_logprob"
ANSWER_LOGPROB, ANSWER_TOKENS = "answer_logprob", "answer_tokens"
TRUTH = "ground_truth_answer"
UNKNOWN = "label unknown"  # why a row of the labels file is left out that has no label there
MOST_VALUES = 50  # of a group column
_NUMBERS = (ENTROPY, LOGPROB, ANSWER_LOGPROB, ANSWER_TOKENS)


class ShardSource(Protocol):
    """Source of vectors and columns: the part of `halp_probe.shards.reader.Shards` that a study reads."""

    @property
    def question_ids(self) -> tuple[str, ...]:
        """Ids of the M questions."""

    @property
    def representations(self) -> tuple[str, ...]:
        """Representations that have vectors."""

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Names of the text columns."""

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the files: the model, its prompt, the run."""

    def has(self, name: str) -> bool:
        """Check for a column."""

    def text(self, name: str) -> list[str]:
        """Return a text column, M values."""

    def numbers(self, name: str) -> np.ndarray:
        """Return a column of numbers [M]."""

    def vectors(self, representation: str) -> np.ndarray:
        """Return [M, D] float32."""


@dataclass(frozen=True)
class LeftOut:
    """Sample of the shards that is not used, and why."""

    question_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class FixedFolds:
    """Folds that a column of the shards names. `split` is the hash of all M of them, to compare with another lab's."""

    column: str
    folds: tuple[str, ...]  # N
    split: str
    questions: int  # M


@dataclass(frozen=True, kw_only=True)
class LabelledRows:
    """Rows that every representation, baseline and fold uses alike; nothing here is larger than a column."""

    index: np.ndarray  # [N] int, rows of the shards
    question_ids: tuple[str, ...]  # N
    y: np.ndarray  # [N] int, 1 = hallucinated, 0 = right
    images: tuple[str, ...]  # N, equal for rows of the same image
    images_identified_by: str  # the column that identifies an image, such as image_sha256
    questions: tuple[str, ...] | None  # N; None where the shards have no question text
    numbers: Mapping[str, np.ndarray]  # column -> [N] float64: the model's confidence in nats, the answer's tokens
    groups: Mapping[str, tuple[str, ...]]  # group column -> N values
    representations: tuple[str, ...]
    left_out: tuple[LeftOut, ...]  # M - N
    notes: tuple[str, ...]
    truths: tuple[str, ...] | None = None  # N ground truths; None where the shards have none
    datasets: tuple[str, ...] = ()  # names in the column `dataset`, of benchmarks that are known by name
    fixed: FixedFolds | None = None  # None: folds are made by image
    likeness: Likeness = field(default_factory=Likeness)
    group_by: str | None = None  # column whose equal values are in one unit of the split, as rows of one image are
    rivals: Mapping[str, np.ndarray] = field(default_factory=dict)  # name -> [N] float64, higher = riskier
    own_baselines: Mapping[str, np.ndarray] = field(default_factory=dict)  # name -> [N] float64

    @property
    def image_codes(self) -> np.ndarray:
        """Codes [N] int, equal for rows of the same image."""
        return np.unique(np.asarray(self.images), return_inverse=True)[1]

    def take_tested(self, folds: Folds) -> Rows:
        """Return the rows that some fold tests, to be judged on."""
        return Rows(y=self.y, fold=folds.fold, images=self.image_codes).take(folds.tested)

    def vectors(self, shards: ShardSource, representation: str) -> np.ndarray:
        """Return [N, D] float32: these rows of one representation."""
        return shards.vectors(representation)[self.index]


def join(
    shards: ShardSource,
    labels: Mapping[str, int | None],
    representations: Sequence[str],
    group_columns: Sequence[str] = (),
    fold_column: str | None = None,
    *,
    join_near_duplicates: bool = False,
    group_by: str | None = None,
) -> LabelledRows:
    """Select the rows with a label of 0 or 1 and with a vector in every one of the representations.

    Raises ProbeError when labels and shards share no id, a vector is damaged, fewer than two classes are left, or there
    is no such group column or `fold_column`.
    """
    _check_groups(shards, group_columns)
    notes = _strangers(shards.question_ids, labels)
    reasons = _label_reasons(shards.question_ids, labels)
    _add_vector_reasons(reasons, shards, representations)
    index = np.array([row for row, reason in enumerate(reasons) if not reason], dtype=np.intp)  # [N]
    left_out = tuple(LeftOut(q, reason) for q, reason in zip(shards.question_ids, reasons, strict=True) if reason)
    notes += _summary(left_out)
    y = np.array([labels[shards.question_ids[row]] for row in index], dtype=np.int64)  # [N]
    _need_both_classes(y, left_out)
    units = split_units(shards, index, join_near_duplicates=join_near_duplicates, group_by=group_by)
    return LabelledRows(
        index=index,
        question_ids=tuple(shards.question_ids[row] for row in index),
        y=y,
        images=units.names,
        images_identified_by=units.identified_by,
        questions=_pick(shards.text("question"), index) if shards.has("question") else None,
        numbers={name: shards.numbers(name)[index].astype(np.float64) for name in _NUMBERS if shards.has(name)},
        groups={name: _pick(shards.text(name), index) for name in group_columns},
        truths=_pick(shards.text(TRUTH), index) if shards.has(TRUTH) else None,
        datasets=tuple(sorted(set(_pick(shards.text(DATASET), index)))) if shards.has(DATASET) else (),
        fixed=None if fold_column is None else _fixed(shards, fold_column, index),
        likeness=units.likeness,
        group_by=group_by,
        representations=tuple(representations),
        left_out=left_out,
        notes=(*notes, *units.notes),
    )


def _fixed(shards: ShardSource, column: str, index: np.ndarray) -> FixedFolds:
    if column not in shards.text_columns:
        there = ", ".join(further_columns(shards)) or "none"
        raise ProbeError(f"`fold_column`: the shards have no column {column!r}; their further columns: {there}")
    folds, ids = shards.text(column), shards.question_ids
    split = split_hash(ids, folds)
    return FixedFolds(column=column, folds=_pick(folds, index), split=split, questions=len(ids))


def choose_representations(available: Sequence[str], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return the wanted representations in the shards' order, all of them when none is named."""
    if not available:
        raise ProbeError("the shards hold no representation; run extract.py again with this output folder empty")
    unknown = sorted(set(wanted or ()) - set(available))
    if unknown:
        raise ProbeError(f"the shards have no representation {unknown[0]!r}; they have: {', '.join(available)}")
    return tuple(name for name in available if not wanted or name in wanted)


def _strangers(question_ids: Sequence[str], labels: Mapping[str, int | None]) -> list[str]:
    """Note the labels whose ids the shards do not have."""
    known = set(question_ids)
    strangers = [question_id for question_id in labels if question_id not in known]
    if len(strangers) == len(labels):
        first = f"labels begin with {strangers[0]!r}" if strangers else "the labels file has no rows"
        raise ProbeError(
            f"labels for other ids: none of {len(labels)} labels belongs to one of the {len(question_ids)} samples in "
            f"the shards ({first}, shards with {question_ids[0]!r}); pass the labels made from these shards"
        )
    if not strangers:
        return []
    return [f"{len(strangers)} of {len(labels)} labels have no sample in the shards (first: {strangers[0]!r})"]


def _label_reasons(question_ids: Sequence[str], labels: Mapping[str, int | None]) -> list[str]:
    """Return [M] reasons why a sample cannot be used as far as labels go; "" when it can."""
    reasons = []
    for question_id in question_ids:
        label = labels.get(question_id)
        if label not in (0, 1, None):
            raise ProbeError(f"label {label!r} of {question_id!r} is neither 0 (right), 1 (hallucinated) nor blank")
        unlabelled = UNKNOWN if question_id in labels else "not in the labels file"
        reasons.append(unlabelled if label is None else "")
    return reasons


def _add_vector_reasons(reasons: list[str], shards: ShardSource, representations: Sequence[str]) -> None:
    """Mark samples without a vector; one representation is in memory at a time."""
    for representation in representations:
        for row in _missing(shards.vectors(representation), shards.question_ids, representation):
            reasons[row] = reasons[row] or f"no {representation}"


def _missing(vectors: np.ndarray, question_ids: Sequence[str], representation: str) -> np.ndarray:
    """Mark rows that are NaN throughout. Raises ProbeError for any other non-finite value."""
    suspect = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    damaged = suspect[~np.isnan(vectors[suspect]).all(axis=1)]
    if len(damaged):
        raise ProbeError(
            f"{representation} of {question_ids[damaged[0]]!r} holds NaN or infinite values ({len(damaged)} such "
            "samples); extract these samples again, in bfloat16 or float32 if the model ran in float16"
        )
    return suspect


def _summary(left_out: Sequence[LeftOut]) -> list[str]:
    """Return one line a reason, with the first few ids."""
    lines = []
    for reason, count in Counter(item.reason for item in left_out).most_common():
        ids = [item.question_id for item in left_out if item.reason == reason][:3]
        lines.append(f"{count} samples left out: {reason} ({', '.join(ids)}{', …' if count > len(ids) else ''})")
    return lines


def _need_both_classes(y: np.ndarray, left_out: Sequence[LeftOut]) -> None:
    if len(y) == 0:
        why = "; ".join(_summary(left_out))
        raise ProbeError(f"no sample is left ({why}); label more of them, or name fewer with `representations`")
    if len(np.unique(y)) == 1:
        name = "1 (hallucinated)" if y[0] else "0 (right)"
        raise ProbeError(
            f"all {len(y)} usable samples have label {name}: a probe needs both classes; "
            "label more samples, or check the rule that made the labels"
        )


def _check_groups(shards: ShardSource, group_columns: Sequence[str]) -> None:
    """Refuse a lookup of the answer or of the image, which would not show what kind of question it is."""
    further = further_columns(shards)
    for name in group_columns:
        if name not in further:
            there = ", ".join(further) or "none"
            raise ProbeError(f"`group_columns`: {name!r} is not an extra column of the table; the shards have: {there}")
        count = len(set(shards.text(name)))
        if count > MOST_VALUES:
            raise ProbeError(
                f"`group_columns`: {name!r} has {count} different values; name a column of at most {MOST_VALUES} groups"
            )


def _pick(values: Sequence[str], index: np.ndarray) -> tuple[str, ...]:
    return tuple(values[row] for row in index)
