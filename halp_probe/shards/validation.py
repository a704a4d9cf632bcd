"""Check a file against docs/shard-format.md: every MUST that the file itself shows."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from halp_probe.records import QUERY_TOKEN, QUESTION_END, VISION_ENCODER
from halp_probe.shards import legacy
from halp_probe.shards.columns import ALL_NUMBERS, CORE_TEXTS, FURTHER_NUMBERS, NUMBERS
from halp_probe.shards.names import COLUMNS, escape
from halp_probe.shards.question_view import QUESTION_TEXTS
from halp_probe.shards.reader import read_float32, representation_names
from halp_probe.shards.sampled import has_samples, sample_problems
from halp_probe.shards.texts import read_text, read_texts

REQUIRED_ATTRIBUTES = ("model_name", "model_type", "dtype", "num_samples", "created_at", "layers", "revision")


def problems(path: Path) -> list[str]:
    """List the problems of a file that `open_shards` can open; empty if it is valid."""
    with h5py.File(path, "r") as file:
        if legacy.is_legacy(file):
            return _legacy_problems(file)
        found = _column_problems(file)
        return found or _view_problems(file)


def _legacy_problems(file: h5py.File) -> list[str]:
    found = []
    for name in legacy.representations(file):
        try:
            vectors = legacy.read_vectors(file, name)
        except KeyError as error:
            found.append(str(error.args[0]))
            continue
        if np.isinf(vectors).any():
            found.append(f"{name} holds infinite values")
    return found


def _column_problems(file: h5py.File) -> list[str]:
    columns = file[COLUMNS]
    found = [f"attribute {name!r} is missing" for name in REQUIRED_ATTRIBUTES if name not in file.attrs]
    required = (*CORE_TEXTS, *NUMBERS)
    found += [f"{COLUMNS}/{name} is missing" for name in required if name not in columns]
    if "question_id" not in columns:
        return found
    ids = read_texts(columns["question_id"])
    if len(set(ids)) != len(ids):
        found.append("question ids are not unique")
    if int(file.attrs.get("num_samples", -1)) != len(ids):
        found.append(f"num_samples is {file.attrs.get('num_samples')}, there are {len(ids)} question ids")
    representations = representation_names(columns)
    if not representations:
        found.append("there is no representation")
    for name in [*(n for n in (*required, *FURTHER_NUMBERS) if n in columns), *representations]:
        if len(columns[name]) != len(ids):
            found.append(f"{COLUMNS}/{name} has {len(columns[name])} rows, there are {len(ids)} question ids")
    for name in representations:
        found += _representation_problems(columns[name], name)
    for name, dtype in ALL_NUMBERS.items():
        if name in columns and columns[name].dtype != dtype:
            found.append(f"{COLUMNS}/{name} has dtype {columns[name].dtype}, expected {np.dtype(dtype)}")
    if has_samples(columns):
        found += sample_problems(columns, len(ids))
    if not found:
        found += _image_problems(columns, ids, representations)
        found += _question_end_problems(columns, ids, representations)
        last = columns["prompt_tokens"][()] - 1
        wrong = np.flatnonzero(columns["token_index/query"][()] != last)
        if len(wrong):
            found.append(f"token_index/query of {ids[wrong[0]]!r} is not the prompt's last token")
    return found


def _image_problems(columns: h5py.Group, ids: list[str], representations: list[str]) -> list[str]:
    """Check prompts without an image: their vision token is -1, and there are no representations of images."""
    without = columns["token_index/vision"][()] == -1
    if not without.any():
        return []
    first = ids[int(without.argmax())]
    of_images = [name for name in representations if not name.startswith((QUERY_TOKEN, QUESTION_END))]
    if of_images or not without.all():
        return [
            f"{first!r} shows no image, but {of_images[0] + ' is present' if of_images else 'others of this file do'}"
        ]
    if (columns["token_id/vision"][()] != -1).any():
        return [f"{first!r} shows no image, but token_id/vision is not -1"]
    return []


def _question_end_problems(columns: h5py.Group, ids: list[str], representations: list[str]) -> list[str]:
    """Check the question's end: its states and its places come together, and it stands in front of the query token."""
    stored = any(name.startswith(QUESTION_END) for name in representations)
    if lacking := [name for name in FURTHER_NUMBERS if (name in columns) != stored]:
        return [f"{COLUMNS}/{lacking[0]} {'is missing beside' if stored else 'stands without'} {QUESTION_END}"]
    if not stored:
        return []
    places = columns["token_index/question_end"][()]
    wrong = np.flatnonzero((places < 0) | (places > columns["token_index/query"][()]))
    return [f"token_index/question_end of {ids[wrong[0]]!r} is outside of the prompt"] if len(wrong) else []


def _representation_problems(dataset: h5py.Dataset, name: str) -> list[str]:
    if dataset.ndim != 2:
        return [f"{COLUMNS}/{name} has {dataset.ndim} dimensions, expected [N, D]"]
    encoded = dataset.attrs.get("encoding") == "bfloat16"
    if dataset.dtype not in (np.float32, np.float16) and not (encoded and dataset.dtype == np.uint16):
        return [f"{COLUMNS}/{name} has dtype {dataset.dtype}, expected float32, float16 or encoded bfloat16"]
    if encoded and any(group != COLUMNS for group in dataset.file):
        return [f"{COLUMNS}/{name} is encoded bfloat16, which does not go with the question view"]
    if not np.isfinite(read_float32(dataset)).all():
        return [f"{COLUMNS}/{name} holds values that are not finite"]
    return []


def _view_problems(file: h5py.File) -> list[str]:
    """Check the question view: optional, but if present it must be complete, in order, and map this file's columns."""
    groups = [name for name in file if name != COLUMNS]
    if not groups:
        return []
    if list(file)[-1] != COLUMNS:
        return [f"{COLUMNS} is not the last key of the root"]
    columns = file[COLUMNS]
    ids = read_texts(columns["question_id"])
    if groups != [escape(question_id) for question_id in ids]:
        return ["the question groups are not those of the columns, in their order"]
    names = [name for name in representation_names(columns) if name != VISION_ENCODER]
    texts = {name: read_texts(columns[name]) for name in QUESTION_TEXTS}
    for row, group in enumerate(map(file.get, groups)):
        missing = [name for name in (*QUESTION_TEXTS, *names) if name not in group]
        if missing:
            return [f"question {ids[row]!r} lacks {missing[0]} in the question view"]
        text = next((n for n in QUESTION_TEXTS if read_text(group[n]) != texts[n][row]), None)
        if text:
            return [f"question {ids[row]!r}: {text} differs between the question view and the columns"]
        for name in names:
            if not _maps_row(group[name], name, row):
                return [f"question {ids[row]!r}: {name} is not a view of row {row} of the columns"]
    return []


def _maps_row(dataset: h5py.Dataset, name: str, row: int) -> bool:
    """Return whether the virtual dataset [D] maps row `row` of the same file's column [N, D]."""
    if not dataset.is_virtual:
        return False
    (source,) = dataset.virtual_sources()
    start, end = source.src_space.get_select_bounds()
    whole_row = start == (row, 0) and end == (row, dataset.shape[0] - 1)
    return source.file_name == "." and source.dset_name == f"/{COLUMNS}/{name}" and whole_row
