"""Join shards and labels by question id: which rows can be used, and why the others cannot.

Legend: M samples in the shards, N rows that are used, D width of a representation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from halp_probe.catalog.benchmark import DATASET
from halp_probe.catalog.folds import split_hash
from halp_probe.near_duplicates import MOST_PICTURES, near_pairs
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.fitting.splits import Folds
from halp_probe.probes.judging.rows import Rows
from halp_probe.shards.columns import CORE_TEXTS, DIFFERENCE_HASH, FURTHER_OWN_TEXTS, IMAGES, image_files

ENTROPY, LOGPROB = "first_token_entropy", "first_token_logprob"
ANSWER_LOGPROB, ANSWER_TOKENS = "answer_logprob", "answer_tokens"
TRUTH = "ground_truth_answer"
BOUNDARY = "token_index/vision"  # -1 where a prompt shows no image
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
class Likeness:
    """Pairs of images that are nearly the same picture, such as one in two encodings."""

    pairs: tuple[tuple[str, str], ...] = ()  # names of two images
    joined: bool = False  # each pair counts as one image, so never on both sides of a split
    unknown: str = ""  # why it is not known which images are alike


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
    likeness: Likeness = field(default_factory=lambda: Likeness())
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
    images, identified_by, image_note = image_names(shards, index)
    likeness = near_images(shards, index, images, join=join_near_duplicates)
    if likeness.joined:
        images = join_images(images, likeness.pairs)
    return LabelledRows(
        index=index,
        question_ids=tuple(shards.question_ids[row] for row in index),
        y=y,
        images=images,
        images_identified_by=identified_by,
        questions=_pick(shards.text("question"), index) if shards.has("question") else None,
        numbers={name: shards.numbers(name)[index].astype(np.float64) for name in _NUMBERS if shards.has(name)},
        groups={name: _pick(shards.text(name), index) for name in group_columns},
        truths=_pick(shards.text(TRUTH), index) if shards.has(TRUTH) else None,
        datasets=tuple(sorted(set(_pick(shards.text(DATASET), index)))) if shards.has(DATASET) else (),
        fixed=None if fold_column is None else _fixed(shards, fold_column, index),
        likeness=likeness,
        representations=tuple(representations),
        left_out=left_out,
        notes=(*notes, image_note),
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


def further_columns(shards: ShardSource) -> list[str]:
    """Return the names of the text columns that come from the table beside question, image and answer."""
    return [name for name in shards.text_columns if name not in (*CORE_TEXTS, *FURTHER_OWN_TEXTS)]


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


def image_names(shards: ShardSource, index: np.ndarray) -> tuple[tuple[str, ...], str, str]:
    """Return a name for each row's image, what these names are, and a note that says so."""
    hashes = _pick(shards.text("image_sha256"), index) if shards.has("image_sha256") else ()
    if hashes and shards.has(BOUNDARY) and (shards.numbers(BOUNDARY)[index] == -1).all():
        note = f"no prompt shows an image: {len(set(hashes))} images are here what image_id names"
        return hashes, "image_sha256", note
    if hashes and all(hashes) and shards.has(IMAGES):
        joined = _connect(hashes, _pick(shards.text(IMAGES), index))
        note = f"{len(set(joined))} sets of images: prompts that show one image, also among others, are in one set"
        return joined, "image_sha256", note
    if hashes and all(hashes):
        return (
            hashes,
            "image_sha256",
            f"{len(set(hashes))} images, told apart by the content of their files (image_sha256)",
        )
    if not shards.has("image_id"):
        raise ProbeError("the shards have neither image_sha256 nor image_id, so no split by image; extract them again")
    ids = _pick(shards.text("image_id"), index)
    if not all(ids):
        row = ids.index("")
        raise ProbeError(f"sample {shards.question_ids[index[row]]!r} has no image_id, so it cannot be split by image")
    why = "some rows lack image_sha256" if hashes else "the shards have no image_sha256"
    note = f"{len(set(ids))} images, told apart by image_id ({why}): copies of a file under two ids count as two"
    return ids, "image_id", note


def near_images(shards: ShardSource, index: np.ndarray, images: Sequence[str], *, join: bool) -> Likeness:
    """Find the pairs among the rows' images, as `image_names` names them, that are nearly the same picture."""
    hashes = _pick(shards.text(DIFFERENCE_HASH), index) if shards.has(DIFFERENCE_HASH) else ()
    if not any(hashes):
        return Likeness(unknown="the shards have no image_difference_hash")
    owners: dict[str, str] = {}  # the first image of each different hash; images with equal hashes are alike
    pairs: dict[tuple[str, str], None] = {}
    for image, each in zip(images, hashes, strict=True):
        for one in each.split():
            if (owner := owners.setdefault(one, image)) != image:
                pairs[owner, image] = None
    if len(owners) > MOST_PICTURES:
        return Likeness(unknown=f"{len(owners)} images are too many to compare each with each")
    names = list(owners.values())
    pairs |= dict.fromkeys((names[a], names[b]) for a, b in near_pairs(list(owners)) if names[a] != names[b])
    return Likeness(pairs=tuple(pairs), joined=join)


def join_images(images: Sequence[str], pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return for each row the first image that its own is connected with by pairs of alike images."""
    place = {image: k for k, image in enumerate(dict.fromkeys(images))}
    edges = [(place[one], place[other]) for one, other in pairs]
    at, to = zip(*edges, strict=True) if edges else ((), ())
    graph = coo_array((np.ones(len(edges)), (at, to)), (len(place), len(place)))
    component = connected_components(graph, directed=False)[1]
    first: dict[int, str] = {}
    named = {image: first.setdefault(component[k], image) for image, k in place.items()}
    return tuple(named[image] for image in images)


def _connect(hashes: Sequence[str], images: Sequence[str]) -> tuple[str, ...]:
    """Return for each row the first content that it is connected with: by content, or by any shared file."""
    rows = [[content, *image_files(files)] for content, files in zip(hashes, images, strict=True)]
    things = {thing: len(rows) + k for k, thing in enumerate(dict.fromkeys(thing for row in rows for thing in row))}
    edges = [(k, things[thing]) for k, row in enumerate(rows) for thing in row]
    at, to = zip(*edges, strict=True)
    size = len(rows) + len(things)
    components = connected_components(coo_array((np.ones(len(edges)), (at, to)), (size, size)), directed=False)[1]
    first: dict[int, str] = {}
    return tuple(first.setdefault(components[k], content) for k, content in enumerate(hashes))


def _pick(values: Sequence[str], index: np.ndarray) -> tuple[str, ...]:
    return tuple(values[row] for row in index)
