"""Texts on disk: HDF5's strings hold neither NUL characters nor halves of surrogate pairs; a model can say both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import cast

import h5py
import numpy as np

from halp_probe.plain_text import is_whole

ESCAPED = "escaped"  # value of a dataset's attribute `encoding`
_ESCAPE = "␛"  # U+241B, the printed symbol of the control character, so that the stored text can be read
_TO_ESCAPE = re.compile(f"[\0\ud800-\udfff{_ESCAPE}]")
_SEQUENCE = re.compile(f"{_ESCAPE}([0-9A-F]{{4}})")


def write_texts(
    group: h5py.Group, name: str, texts: str | Sequence[str], *, shape: tuple[int, ...] | None = None
) -> None:
    """Write texts [N], or one text as a scalar, as they are; if any of them is not whole, all of them escaped.

    Each NUL, surrogate and ␛ is written as ␛ and its four hexadecimal digits, and the dataset is marked. `shape` is
    that of the dataset; None: [N].
    """
    every = [texts] if isinstance(texts, str) else texts
    plain = all(map(is_whole, every))
    stored = every if plain else [_TO_ESCAPE.sub(_sequence, text) for text in every]
    data = np.array(stored[0] if isinstance(texts, str) else stored, dtype=object)
    dataset = group.create_dataset(name, data=data if shape is None else data.reshape(shape), dtype=h5py.string_dtype())
    if not plain:
        dataset.attrs["encoding"] = ESCAPED


def read_texts(dataset: h5py.Dataset) -> list[str]:
    """Read the texts that `write_texts` wrote, as one list."""
    texts = cast("list[str]", list(dataset.asstr()[()].ravel()))
    return list(map(_restore, texts)) if _is_escaped(dataset) else texts


def read_text(dataset: h5py.Dataset) -> str:
    """Read the one text of a scalar dataset that `write_texts` wrote."""
    text = cast("str", dataset.asstr()[()])
    return _restore(text) if _is_escaped(dataset) else text


def _is_escaped(dataset: h5py.Dataset) -> bool:
    return bool(dataset.attrs.get("encoding") == ESCAPED)


def _sequence(found: re.Match[str]) -> str:
    return f"{_ESCAPE}{ord(found[0]):04X}"


def _restore(text: str) -> str:
    return _SEQUENCE.sub(lambda found: chr(int(found[1], 16)), text)
