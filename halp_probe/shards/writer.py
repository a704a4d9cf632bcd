"""Write a shard: the columns once and, on request, the view by question; under a temporary name, then renamed.

Legend: N samples, D width of a representation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from halp_probe.errors import InputError
from halp_probe.shards.columns import Columns
from halp_probe.shards.names import COLUMNS, escape
from halp_probe.shards.question_view import write_question_view
from halp_probe.shards.sampled import write_samples
from halp_probe.shards.texts import write_texts

FORMAT = "halp_probe"
FORMAT_VERSION = 1
STORE_DTYPES = ("float32", "float16", "bfloat16")
# "latest" would write virtual datasets that HDF5 before 2.0 cannot read.
_READABLE_SINCE = ("v110", "v110")


def write_shard(
    path: Path,
    columns: Columns,
    attributes: Mapping[str, Any],
    *,
    question_view: bool = True,
    store_dtype: str = "float32",
) -> None:
    """Write the samples as a finished shard.

    The file appears under `path` only when it is complete and on disk. Raises InputError if `store_dtype` cannot hold
    the values (float16 overflow) or is not possible with the question view (bfloat16).
    """
    check_store_dtype(store_dtype, question_view)
    with _open_new(path) as file:
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["num_samples"] = len(columns)
        file.attrs["created_at"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
        for name, value in attributes.items():
            file.attrs[name] = value
        if question_view:
            write_question_view(file, columns, np.dtype(store_dtype))
        _write_columns(file, columns, store_dtype)


def check_store_dtype(store_dtype: str, question_view: bool) -> None:
    """Raise InputError for bfloat16 with a question view, whose readers would take its bits for numbers."""
    if store_dtype == "bfloat16" and question_view:
        raise InputError("`store_dtype` bfloat16 is possible only without the question view: add `question_view=False`")


def _write_columns(file: h5py.File, columns: Columns, store_dtype: str) -> None:
    group = file.create_group(COLUMNS, track_order=True)
    for name, texts in columns.texts.items():
        write_texts(group, escape(name), texts)
    for name, numbers in columns.numbers.items():
        group.create_dataset(name, data=numbers)
    for name, vectors in columns.vectors.items():
        dataset = group.create_dataset(name, data=_encode(vectors, store_dtype, name))
        if store_dtype == "bfloat16":
            dataset.attrs["encoding"] = "bfloat16"
    if columns.samples is not None:
        write_samples(group, columns.samples)


def _encode(vectors: np.ndarray, store_dtype: str, name: str) -> np.ndarray:
    """Convert [N, D] float32 to the dtype on disk."""
    if store_dtype == "float32":
        return vectors
    if store_dtype == "bfloat16":
        return _bfloat16_bits(vectors)
    with np.errstate(over="ignore"):
        halved = vectors.astype(np.float16)
    overflowed = int((np.isinf(halved) & np.isfinite(vectors)).sum())
    if overflowed:
        raise InputError(
            f"{overflowed} values of {name} overflow float16 (largest {np.abs(vectors).max():.4g}, limit 65504); "
            "store them as float32 or bfloat16"
        )
    return halved


def _bfloat16_bits(vectors: np.ndarray) -> np.ndarray:
    """Return the upper 16 bits of each float32, rounded to nearest even; NaN stays NaN."""
    bits = np.ascontiguousarray(vectors, dtype=np.float32).view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    return np.where(np.isnan(vectors), np.uint32(0x7FC0), rounded).astype(np.uint16)


@contextmanager
def _open_new(path: Path) -> Iterator[h5py.File]:
    """Open a new HDF5 file that takes its name only when it is complete and on disk."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with h5py.File(partial, "w", libver=_READABLE_SINCE, track_order=True) as file:
            yield file
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # h5py raises either if the disk is full
        raise InputError(f"{path} cannot be written ({error}); free space, and run the same command again") from error
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
