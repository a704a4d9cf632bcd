"""Splits into training and test rows: stratified, shuffled, and never one image on both sides.

Legend: N rows, K folds.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from halp_probe.probes.errors import ProbeError

MOST_FIXED = 20  # folds that a column may name
_OWN_FOLDS = "pass a number of `folds`, which are made by image"
FEWEST = 3  # outer folds that leave inner ones to choose by
_USUAL = 5
_JUDGING = 2  # folds with both classes, to judge a probe by


@dataclass(frozen=True)
class Split:
    """Rows of one inner or outer split."""

    train: np.ndarray  # int
    test: np.ndarray  # int


@dataclass(frozen=True, kw_only=True)
class Folds:
    """Outer folds: each row is tested once, by a model that never saw its image."""

    fold: np.ndarray  # [N] int: the fold that tests the row
    count: int  # K
    untrainable: Mapping[int, str]  # fold -> why no model can be fitted for it
    unjudged: Mapping[int, str]  # fold -> why it has no AUROC; covers the untrainable ones

    @property
    def tested(self) -> np.ndarray:
        """Mask [N] bool: false for rows that no fold tests, which only train (fold -1)."""
        return self.fold >= 0

    def split(self, fold: int) -> Split:
        """Return the training and test rows of a fold."""
        return Split(train=np.flatnonzero(self.fold != fold), test=np.flatnonzero(self.fold == fold))


def study_folds(y: np.ndarray, images: np.ndarray | None, count: int, seed: int) -> Folds:
    """Return outer folds of which at least two judge, and that leave inner folds to choose by; see `outer_folds`.

    Raises ProbeError, with a number of folds that can be used if there is one.
    """
    if count < FEWEST:
        remedy = _remedy(y, images, range(FEWEST, _USUAL + 1), seed)
        raise ProbeError(f"{count} folds leave no inner folds to choose layer and penalty by; {remedy}")
    folds = outer_folds(y, images, count, seed)
    return _judgeable(folds, y, _remedy(y, images, range(count - 1, FEWEST - 1, -1), seed))


def _judgeable(folds: Folds, y: np.ndarray, remedy: str) -> Folds:
    """Return the folds. Raises ProbeError if fewer than two of them can judge a probe."""
    judged = folds.count - len(folds.unjudged)
    if judged < _JUDGING:
        raise ProbeError(
            f"only {judged} of {folds.count} test folds hold both classes ({int(y.sum())} of {len(y)} labels are 1): "
            f"too few to judge a probe; {remedy}"
        )
    return folds


def outer_folds(y: np.ndarray, images: np.ndarray | None, count: int, seed: int) -> Folds:
    """Return the fold of each row.

    `y` [N] of 0 and 1, `images` [N] equal for rows of the same image (None: split by row). Raises ProbeError when
    there are fewer images, or fewer rows of either class, than folds.
    """
    n_images = len(y) if images is None else len(np.unique(images))
    if n_images < count or max(np.bincount(y)) < count:
        remedy = _remedy(y, images, range(count - 1, FEWEST - 1, -1), seed)
        if n_images < count:
            raise ProbeError(f"{n_images} images cannot fill {count} folds without one being on both sides; {remedy}")
        raise ProbeError(f"neither class has {count} rows for {count} folds; {remedy}")
    return _outer_folds(y, images, count, seed)


def _outer_folds(y: np.ndarray, images: np.ndarray | None, count: int, seed: int) -> Folds:
    fold = np.empty(len(y), dtype=np.intp)
    with warnings.catch_warnings():  # a class too rare for every fold is reported by fold, with the reason
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        splits = _stratify(y, images, count, seed)
    for number, split in enumerate(splits):
        fold[split.test] = number
    return folds_of(fold, y)


def fixed_folds(names: Sequence[str], y: np.ndarray, images: np.ndarray, column: str) -> Folds:
    """Return the folds that a column names: rows of one name are tested together.

    `names` [N], `y` [N] of 0 and 1, `images` [N] equal for rows of the same image. Raises ProbeError for a blank name,
    fewer than three folds, and an image in two of them.
    """
    if not all(names):
        raise ProbeError(
            f"{list(names).count('')} rows have no fold in the column {column!r}; fill it, or {_OWN_FOLDS}"
        )
    distinct = sorted(set(names), key=lambda name: (len(name), name))  # 2 before 10
    if len(distinct) < FEWEST:
        raise ProbeError(
            f"the column {column!r} has {len(distinct)} folds here, too few to choose on some; {_OWN_FOLDS}"
        )
    if len(distinct) > MOST_FIXED:
        raise ProbeError(
            f"the column {column!r} has {len(distinct)} values, more than {MOST_FIXED} folds; name a column of folds, "
            f"or {_OWN_FOLDS}"
        )
    number = {name: place for place, name in enumerate(distinct)}
    folds = folds_of(np.array([number[name] for name in names], dtype=np.intp), y)
    if both := images_on_both_sides(folds, images):
        raise ProbeError(
            f"{both} images are in several folds of the column {column!r}, so on both sides of its split (equal files "
            f"count as one image); {_OWN_FOLDS}"
        )
    return _judgeable(folds, y, f"label more questions, or {_OWN_FOLDS}")


def _remedy(y: np.ndarray, images: np.ndarray | None, counts: Iterable[int], seed: int) -> str:
    """Return what to do, with the first of these numbers of folds that a study can use, if there is one."""
    usable = next((count for count in counts if _can_use(y, images, count, seed)), None)
    more = "label more questions, of both labels and on more images"
    return more if usable is None else f"pass `folds` {usable}, or {more}"


def _can_use(y: np.ndarray, images: np.ndarray | None, count: int, seed: int) -> bool:
    n_images = len(y) if images is None else len(np.unique(images))
    if n_images < count or max(np.bincount(y)) < count:
        return False
    folds = _outer_folds(y, images, count, seed)
    return folds.count - len(folds.unjudged) >= _JUDGING


def folds_of(fold: np.ndarray, y: np.ndarray) -> Folds:
    """Return the folds that test each row as `fold` says ([N] int; -1: none), with those that cannot be judged."""
    count = int(fold.max()) + 1
    untrainable, unjudged = {}, {}
    for number in range(count):
        train, test = y[fold != number], y[fold == number]
        if len(np.unique(train)) < 2:
            untrainable[number] = f"fold {number}: all its training rows have label {train[0]}"
        if len(np.unique(test)) < 2:
            unjudged[number] = f"fold {number}: all its {len(test)} test rows have label {test[0]}"
    return Folds(fold=fold, count=count, untrainable=untrainable, unjudged={**unjudged, **untrainable})


def images_on_both_sides(folds: Folds, images: np.ndarray) -> int:
    """Count the images that have rows that train for a fold and rows that it tests; `images` [N]."""
    codes = np.unique(images, return_inverse=True)[1]
    pairs = np.unique(np.column_stack([codes, folds.fold]), axis=0)  # each image with each fold that has rows of it
    return int((np.bincount(pairs[:, 0]) > 1).sum())


def inner_splits(y: np.ndarray, images: np.ndarray | None, count: int, seed: int) -> tuple[Split, ...]:
    """Split within a training set, by image when images are given; only splits with both classes on both sides.

    Empty when the rows are too few for `count` splits. The splits of the last rows are cached, for the next
    representation.
    """
    codes = None if images is None else np.unique(images, return_inverse=True)[1].astype(np.int64).tobytes()
    return _cached_splits(y.astype(np.int8).tobytes(), codes, count, seed)


@lru_cache(maxsize=8)
def _cached_splits(y_bytes: bytes, image_bytes: bytes | None, count: int, seed: int) -> tuple[Split, ...]:
    y = np.frombuffer(y_bytes, dtype=np.int8)
    images = None if image_bytes is None else np.frombuffer(image_bytes, dtype=np.int64)
    units = len(y) if images is None else len(np.unique(images))
    if count > units or count > min(np.bincount(y, minlength=2)):
        return ()
    return tuple(
        split
        for split in _stratify(y, images, count, seed)
        if len(np.unique(y[split.train])) == 2 and len(np.unique(y[split.test])) == 2
    )


def _stratify(y: np.ndarray, images: np.ndarray | None, count: int, seed: int) -> list[Split]:
    kind = StratifiedKFold if images is None else StratifiedGroupKFold
    splitter = kind(count, shuffle=True, random_state=seed)
    splits = [Split(train, test) for train, test in splitter.split(np.zeros(len(y)), y, images)]
    if images is not None:
        _assert_apart(splits, images)
    return splits


def _assert_apart(splits: list[Split], images: np.ndarray) -> None:
    for split in splits:
        shared = np.intersect1d(images[split.train], images[split.test])
        if len(shared):
            raise AssertionError(f"image {shared[0]} is on both sides of a split")
