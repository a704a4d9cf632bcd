"""Splits of a data set: from the hub, a folder of `save_to_disk`, or parquet and JSON files. Pictures stay encoded."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halp_probe.errors import InputError
from halp_probe.json_files import read_json

ALL = "all"
_ROWS_AT_ONCE = 16
_SUFFIXES = (".parquet", ".jsonl", ".json")
_EXPECTED = " (files SPLIT-*.parquet, SPLIT.parquet, .jsonl or .json, there or in data/)"

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Split of a data set: its name, its files or `datasets.Dataset`, and the folder of relative paths in its rows."""

    name: str
    folder: Path
    source: Any

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """Yield all rows in order, with at least these columns. Raises InputError for a file that cannot be read."""
        if isinstance(self.source, list):
            for path in self.source:
                yield from _parquet(path, columns) if path.suffix == ".parquet" else _json(path)
            return
        data = self.source.select_columns(list(columns)) if columns else self.source
        for block in data.with_format("arrow").iter(batch_size=_ROWS_AT_ONCE):  # arrow keeps images encoded
            yield from block.to_pylist()


def open_splits(dataset: str, split: str, parts: Sequence[str]) -> list[Split]:
    """Return the split of that name; where there is no `all`, the `parts` that it is made of.

    `dataset` is a hub name, a folder, or one parquet or JSON file, which is all of the split whatever its name. Raises
    InputError where there is no such data set or split, and where the package `datasets` is missing.
    """
    path = Path(dataset)
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise InputError(f"`dataset` {dataset} must end in one of {', '.join(_SUFFIXES)}; export it as one of them")
        return [Split(name=split, folder=path.parent, source=[path])]
    if path.is_dir() and not any((path / name).exists() for name in ("dataset_dict.json", "state.json")):
        files = {name: found for name in (*parts, ALL) if (found := _files(path, name))}
        return [
            Split(name=name, folder=path, source=files[name])
            for name in _choose(dataset, split, parts, files, _EXPECTED)
        ]
    loaded = _load(dataset, path, split)
    if not isinstance(loaded, dict):
        return [Split(name=split, folder=path, source=loaded)]
    return [Split(name=name, folder=path, source=loaded[name]) for name in _choose(dataset, split, parts, loaded)]


def _choose(dataset: str, split: str, parts: Sequence[str], there: Mapping[str, Any], expected: str = "") -> list[str]:
    wanted = [split] if split in there or split != ALL else list(parts)
    missing = [name for name in wanted if name not in there]
    if missing:
        raise InputError(
            f"`dataset` {dataset} has no split {', '.join(missing)}; it has {', '.join(there) or 'none of them'}"
            f"{expected}; choose one with `split`, or pass a file"
        )
    return wanted


def _files(folder: Path, name: str) -> list[Path]:
    """Return `natural-00000-of-00003.parquet`, …, or `natural.json`; both may be in `data/`."""
    for place in (folder, folder / "data"):
        if shards := sorted(path for path in place.glob("*.parquet") if path.name.startswith(f"{name}-")):
            return shards
        for suffix in _SUFFIXES:
            if (path := place / f"{name}{suffix}").is_file():
                return [path]
    return []


def _load(dataset: str, path: Path, split: str) -> Any:
    """Load the data set by the package `datasets`: its own folders, and the hub's data sets."""
    try:
        import datasets
    except ImportError as error:
        raise InputError(f"`dataset` {dataset} needs the package datasets: pip install 'halp_probe[tasks]'") from error
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        if path.is_dir():
            return datasets.load_from_disk(dataset)
        return datasets.load_dataset(dataset) if split == ALL else {split: datasets.load_dataset(dataset, split=split)}
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"`dataset` {dataset} is not a local file or folder, and cannot be loaded: {error}") from error


def _parquet(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(f"{path} needs the package datasets: pip install 'halp_probe[tasks]'") from error
    try:
        with parquet.ParquetFile(path) as file:
            there = [name for name in columns if name in file.schema_arrow.names] if columns else None
            for block in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=there):
                yield from block.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path} cannot be read as parquet: {error}; download it again") from error


def _json(path: Path) -> Iterator[Row]:
    """Yield the rows of a JSON list, or of a file with one row a line."""
    rows = _lines(path) if path.suffix == ".jsonl" else read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path} is not a list of rows: each is an object with id, images and questions")
    yield from rows


def _lines(path: Path) -> list[Any]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
