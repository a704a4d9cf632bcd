"""Group-per-question files of other HALP code: arrays of float32 directly under `<question_id>/…`.

Legend: n questions of the file, D width.
"""

from __future__ import annotations

import h5py
import numpy as np

from halp_probe.records import QUERY_TOKEN, VISION_ENCODER, VISION_ONLY, VISION_TOKEN
from halp_probe.shards.names import COLUMNS, reading_order

_MARKS = (VISION_ONLY, VISION_TOKEN, QUERY_TOKEN)
_TEXTS = ("question", "image_id", "answer", "ground_truth_answer")


def is_legacy(file: h5py.File) -> bool:
    """Return whether a file has no columns, and its first question group holds arrays that HALP code writes."""
    if COLUMNS in file:
        return False
    first = next(iter(file.values()), None)
    return isinstance(first, h5py.Group) and any(mark in first for mark in _MARKS)


def question_ids(file: h5py.File) -> list[str]:
    """Return the names of the question groups; such code does not escape ids."""
    return [name for name, item in file.items() if isinstance(item, h5py.Group)]


def representations(file: h5py.File) -> list[str]:
    """Return the representations that at least one question has."""
    found = {name for question_id in question_ids(file) for name in _array_names(file[question_id])}
    return sorted(found, key=reading_order)


def text_columns(file: h5py.File) -> list[str]:
    """Return the names of the texts that the first question has."""
    first = file[question_ids(file)[0]]
    return [name for name in _TEXTS if name in first or name in first.attrs]


def read_text(file: h5py.File, name: str) -> list[str]:
    """Read one text for each question; "" where a question has none."""
    return [_text(file[question_id], name) for question_id in question_ids(file)]


def width(file: h5py.File, representation: str) -> int:
    """Return D, taken from the first question that has the array; 0 if none has it."""
    arrays = (file.get(f"{question_id}/{representation}") for question_id in file)
    return next((int(array.size) for array in arrays if array is not None), 0)


def read_vectors(file: h5py.File, representation: str) -> np.ndarray:
    """Read [n, D] float32; rows of NaN for questions without the array; [n, 0] if none has it.

    Raises KeyError if questions disagree on D.
    """
    ids = question_ids(file)
    vectors = np.full((len(ids), width(file, representation)), np.nan, dtype=np.float32)
    for question_id, row in zip(ids, vectors, strict=True):
        array = file.get(f"{question_id}/{representation}")
        if array is None:
            continue
        if array.size != len(row):
            raise KeyError(
                f"{question_id}/{representation} does not have the {len(row)} values that the other questions have"
            )
        row[:] = array[()].reshape(-1)
    return vectors


def _array_names(group: h5py.Group) -> list[str]:
    names = [name for name in (VISION_ONLY, VISION_ENCODER) if name in group]
    for position in (VISION_TOKEN, QUERY_TOKEN):
        names += [f"{position}/{layer}" for layer in group.get(position, ())]
    return names


def _text(group: h5py.Group, name: str) -> str:
    value = group[name][()] if name in group else group.attrs.get(name, "")
    return value.decode() if isinstance(value, bytes) else str(value)
