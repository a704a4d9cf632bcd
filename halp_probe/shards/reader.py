"""Read shards: one file or a folder of them, ours or the group-per-question files of other HALP code.

Legend: N samples over all files, D width of a representation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import h5py
import numpy as np

from halp_probe.errors import InputError
from halp_probe.shards import legacy
from halp_probe.shards.columns import ALL_NUMBERS, CORE_TEXTS, OWN_COLUMNS, Columns
from halp_probe.shards.names import (
    COLUMNS,
    escape,
    is_representation,
    part_number,
    reading_order,
    unescape,
)
from halp_probe.shards.sampled import Samples, concatenate_samples, has_samples, no_samples, read_samples
from halp_probe.shards.texts import read_texts
from halp_probe.shards.writer import FORMAT, FORMAT_VERSION
from halp_probe.state_identity import ONE_FOLDER, StateIdentity

if TYPE_CHECKING:
    import pandas as pd

_SUFFIXES = (".h5", ".hdf5")
JOURNAL = "journal"
T = TypeVar("T")


class ShardError(InputError):
    """A shard that cannot be read; the message names the file, the key and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Shards:
    """Samples of one or more shard files, read on demand; only ids and names are kept in memory.

    Examples
    --------
    >>> import halp_probe
    >>> shards = halp_probe.open_shards("output")
    >>> shards.vectors("query_token_representation/layer_5").shape, len(shards.text("answer"))
    ((360, 128), 360)
    >>> shards.frame()[["question_id", "answer", "first_token_entropy"]].shape
    (360, 3)
    """

    files: tuple[Path, ...]
    counts: tuple[int, ...]  # samples in each file
    question_ids: tuple[str, ...]  # N, unique, in shard order
    representations: tuple[str, ...]  # in reading order
    text_columns: tuple[str, ...]
    number_columns: tuple[str, ...]
    attributes: dict[str, Any]  # of the first file

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings that the samples may be incomplete; empty after a run that has ended."""
        waiting = len(list((self.files[0].parent / JOURNAL).glob("*.h5")))
        if not waiting:
            return ()
        return (f"the run is not finished: {waiting} batches are in no shard yet; run extract.py again to finish it",)

    def has(self, name: str) -> bool:
        """Return whether there is a text or number column of this name."""
        return name in self.text_columns or name in self.number_columns

    def text(self, name: str) -> list[str]:
        """Read N strings: `question`, `answer` (the model's), `ground_truth_answer`, `image_sha256` …."""
        self._check_name(name, self.text_columns)
        if name == "question_id":
            return list(self.question_ids)
        return list(chain.from_iterable(self._read_each(lambda file: _read_text(file, name))))

    def numbers(self, name: str) -> np.ndarray:
        """Read [N] int32 or float32: `first_token_entropy` and `first_token_logprob` in nats, `token_index/query` …."""
        self._check_name(name, self.number_columns)
        return np.concatenate(self._read_each(lambda file: _dataset(file, name)[()]))

    def vectors(self, representation: str) -> np.ndarray:
        """Read [N, D] float32 of one representation; a row of NaN only is a sample without this vector.

        Raises ShardError if no sample has it, or if files disagree on D.
        """
        self._check_name(representation, self.representations)
        vectors: np.ndarray | None = None  # [N, D], once a file gives D
        end = 0
        for path, count in zip(self.files, self.counts, strict=True):
            begin, end = end, end + count
            with _open(path) as file:
                width = _width(file, representation)
                if vectors is None and width:
                    vectors = np.empty((len(self.question_ids), width), dtype=np.float32)
                    vectors[:begin] = np.nan  # samples of earlier files, which lack it
                if vectors is not None and width not in (0, vectors.shape[1]):
                    raise ShardError(
                        f"{self.files[0].parent}: {representation} has width {sorted((width, vectors.shape[1]))} in "
                        "different files; shards of different models cannot be read together, pass one run's folder"
                    )
                if vectors is not None:
                    _read_vectors(file, representation, vectors[begin:end])
        if vectors is None:
            raise ShardError(f"{self.files[0].parent}: no file has {representation} any more; open the shards again")
        return vectors

    @property
    def has_samples(self) -> bool:
        """Whether the run sampled answers beside the greedy ones."""
        return "sample_temperature" in self.attributes

    def samples(self) -> Samples:
        """Read the [N, S] answers that were sampled, their log-probabilities (nats) and lengths in tokens.

        Raises ShardError if the run sampled none.
        """
        blocks = self._read_each(_read_samples)
        counts = {block.answer.shape[1] for block in blocks if isinstance(block, Samples)}
        if len(counts) != 1:
            raise ShardError(
                f"{self.files[0].parent} holds no sampled answers; extract with `samples=10`"
                if not counts
                else f"{self.files[0].parent}: files hold {sorted(counts)} sampled answers; keep one run a folder"
            )
        (count,) = counts
        return concatenate_samples(
            [block if isinstance(block, Samples) else no_samples(block, count) for block in blocks]
        )

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame with a row for each of the N questions: all texts and numbers, without the vectors."""
        import pandas as pd

        texts = {name: self.text(name) for name in self.text_columns}
        return pd.DataFrame({**texts, **{name: self.numbers(name) for name in self.number_columns}})

    def _check_name(self, name: str, names: tuple[str, ...]) -> None:
        if name not in names:
            raise ShardError(f"{self.files[0]} has no {name!r}; there are: {', '.join(names)}")

    def _read_each(self, read: Callable[[h5py.File], T]) -> list[T]:
        """Apply `read` to each file. Not a generator of files: `_open` would not see its caller's KeyErrors."""
        results = []
        for path in self.files:
            with _open(path) as file:
                results.append(read(file))
        return results


def open_shards(path: str | os.PathLike[str]) -> Shards:
    """Open a shard file, or all shards in a folder, in order of their parts.

    Parameters
    ----------
    path
        A file that ends in `.h5` or `.hdf5`, or a folder with such files: ours, or those of other HALP code.

    Returns
    -------
    Shards
        Read on demand: `.vectors(representation)` gives [N, D] float32, `.text(column)` N strings, `.numbers(column)`
        [N] int32 or float32.

    Raises
    ------
    ShardError
        An `InputError` that names the file and the key: when one cannot be read, is not a shard, repeats a question id,
        or holds states that are not comparable with the others'.

    Examples
    --------
    >>> import halp_probe
    >>> shards = halp_probe.open_shards("output")
    >>> len(shards.question_ids), shards.representations[-1]
    (360, 'query_token_representation/layer_5')
    >>> x = shards.vectors("query_token_representation/layer_3")
    >>> x.shape, x.dtype
    ((360, 128), dtype('float32'))
    >>> entropy = shards.numbers("first_token_entropy")  # nats
    >>> answers = shards.text("answer")
    """
    files = _shard_files(Path(path))
    ids: list[str] = []
    counts: list[int] = []
    names: dict[str, None] = {}
    numbers: set[str] | None = None
    texts: dict[str, None] = {}
    file_of: dict[str, Path] = {}
    attributes: dict[str, Any] = {}
    for file_path in files:
        with _open(file_path) as file:
            here = _question_ids(file)
            names.update(dict.fromkeys(_representations(file)))
            numbers = _numbers_of(file) if numbers is None else numbers & _numbers_of(file)
            texts.update(dict.fromkeys(_texts_of(file)))
            file_attributes = {key: _plain(value) for key, value in file.attrs.items()}
        attributes = attributes or file_attributes
        _check_same_states(files[0], attributes, file_path, file_attributes)
        for question_id in here:
            if question_id in file_of:
                raise ShardError(
                    f"question id {question_id!r} is in {file_of[question_id].name} and in {file_path.name}: "
                    "these files belong to different runs, keep one run a folder"
                )
            file_of[question_id] = file_path
        ids.extend(here)
        counts.append(len(here))
    return Shards(
        files=tuple(files),
        counts=tuple(counts),
        question_ids=tuple(ids),
        representations=tuple(sorted(names, key=reading_order)),
        text_columns=tuple(texts),
        number_columns=tuple(name for name in ALL_NUMBERS if name in (numbers or ())),
        attributes=attributes,
    )


def _check_same_states(first: Path, attributes: dict[str, Any], path: Path, file_attributes: dict[str, Any]) -> None:
    """Raise ShardError for a file of another run than the first one. Files of other HALP code record too little."""
    one, other = StateIdentity.of_shards(attributes), StateIdentity.of_shards(file_attributes)
    if not (one.complete and other.complete):
        return
    if found := one.differences(other, ONE_FOLDER):
        raise ShardError(
            f"{first.name} and {path.name} hold states of different kinds: "
            f"{'; '.join(each.between('in one', 'in the other') for each in found)}; keep one run a folder"
        )


def read_columns(path: Path) -> Columns:
    """Read everything in one file of this format (a shard or a journal file)."""
    with _open(path) as file:
        if legacy.is_legacy(file):
            raise ShardError(f"{path} is a group-per-question file without {COLUMNS}; read it with open_shards")
        return Columns(
            texts={name: _read_text(file, name) for name in _texts_of(file)},
            numbers={name: _dataset(file, name)[()] for name in ALL_NUMBERS if name in _numbers_of(file)},
            vectors={name: read_float32(_dataset(file, name)) for name in _representations(file)},
            samples=read_samples(file[COLUMNS]) if has_samples(file[COLUMNS]) else None,
        )


def _shard_files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise ShardError(f"{path} is not a shard; pass a file that ends in .h5, or a folder of them")
        return [path]
    if not path.is_dir():
        raise ShardError(f"{path} does not exist; pass a shard file or the `output_dir` of an extraction")
    files = [file for file in path.iterdir() if file.suffix in _SUFFIXES and not file.name.startswith(".")]
    if not files and (below := sorted({file.parent for file in path.glob("*/*_embeddings_part_*.h5")})):
        raise ShardError(f"{path} holds no shards itself, but {below[0]} does; pass that folder")
    if not files:
        raise ShardError(f"{path} holds no shards (*.h5); run extract.py with `output_dir` {path} first")
    return sorted(files, key=lambda file: (part_number(file.name) or 0, file.name))


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ShardError(
            f"{path} is not a readable HDF5 file ({error}); it may be cut short: delete it and run extract.py again, "
            "which captures its questions again"
        ) from error
    with file:
        try:
            _check_format(file, path)
            yield file
        except KeyError as error:
            raise ShardError(f"{path}: {error.args[0]}; the file does not follow docs/shard-format.md") from error
        except (OSError, RuntimeError, UnicodeDecodeError) as error:  # what h5py raises for damaged bytes
            raise ShardError(
                f"{path} is damaged ({error}); copy it again, or delete it and run extract.py again, which captures "
                "its questions again"
            ) from error


def _check_format(file: h5py.File, path: Path) -> None:
    if COLUMNS in file:
        written_by, version = file.attrs.get("format"), int(file.attrs.get("format_version", 0))
        if written_by != FORMAT or not 1 <= version <= FORMAT_VERSION:
            raise ShardError(
                f"{path} has format {written_by!r} version {version}; this halp_probe reads {FORMAT!r} up to "
                f"version {FORMAT_VERSION}: upgrade halp_probe"
            )
    elif not legacy.is_legacy(file):
        raise ShardError(f"{path} is HDF5 but no shard: it has neither {COLUMNS} nor groups of questions")


def _question_ids(file: h5py.File) -> list[str]:
    return legacy.question_ids(file) if legacy.is_legacy(file) else _read_text(file, "question_id")


def _representations(file: h5py.File) -> list[str]:
    return legacy.representations(file) if legacy.is_legacy(file) else representation_names(file[COLUMNS])


def representation_names(group: h5py.Group) -> list[str]:
    """Return the representations below a group, in reading order."""
    found: list[str] = []
    group.visit(lambda name: found.append(name) if is_representation(name) else None)
    return sorted(found, key=reading_order)


def _texts_of(file: h5py.File) -> list[str]:
    if legacy.is_legacy(file):
        return ["question_id", *legacy.text_columns(file)]
    columns = file[COLUMNS]
    return [unescape(name) for name in columns if name in CORE_TEXTS or _is_further_column(columns, name)]


def _is_further_column(columns: h5py.Group, name: str) -> bool:
    """Return whether a column is one of the table. Opens it only if its name does not decide, which saves time."""
    if name in OWN_COLUMNS:
        return False
    item = columns[name]
    return isinstance(item, h5py.Dataset) and h5py.check_string_dtype(item.dtype) is not None


def _numbers_of(file: h5py.File) -> set[str]:
    if legacy.is_legacy(file):
        return set()
    columns = file[COLUMNS]
    return {name for name in ALL_NUMBERS if name in columns}


def _read_text(file: h5py.File, name: str) -> list[str]:
    if legacy.is_legacy(file):
        return legacy.read_text(file, name)
    stored = escape(name)
    if name not in CORE_TEXTS and stored not in file[COLUMNS]:  # a column that was added to the table later
        return [""] * len(_read_text(file, "question_id"))
    return read_texts(_dataset(file, stored))


def _read_samples(file: h5py.File) -> Samples | int:
    """Read a file's sampled answers; its number of questions if it has none."""
    if not legacy.is_legacy(file) and has_samples(file[COLUMNS]):
        return read_samples(file[COLUMNS])
    return len(_question_ids(file))


def _width(file: h5py.File, representation: str) -> int:
    """Return D of the representation in this file; 0 if no sample of the file has it."""
    if legacy.is_legacy(file):
        return legacy.width(file, representation)
    return _dataset(file, representation).shape[-1] if representation in file[COLUMNS] else 0


def _read_vectors(file: h5py.File, representation: str, block: np.ndarray) -> None:
    """Fill `block` [n, D] float32, with NaN if this file does not have the representation."""
    if legacy.is_legacy(file):
        block[:] = legacy.read_vectors(file, representation) if legacy.width(file, representation) else np.nan
    elif representation not in file[COLUMNS]:
        block[:] = np.nan
    else:
        dataset = _dataset(file, representation)
        if dataset.shape != block.shape:
            raise KeyError(f"{COLUMNS}/{representation} has shape {dataset.shape}, expected {block.shape}")
        if dataset.dtype == block.dtype:
            dataset.read_direct(block)  # directly: a copy costs as much as reading
        else:
            block[:] = read_float32(dataset)


def read_float32(dataset: h5py.Dataset) -> np.ndarray:
    """Read the dataset's values as float32, whatever they are stored as."""
    if dataset.attrs.get("encoding") == "bfloat16":
        return (dataset[()].astype(np.uint32) << 16).view(np.float32)
    return dataset[()].astype(np.float32, copy=False)


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    return file[COLUMNS][name]


def _plain(value: Any) -> Any:
    """Convert an HDF5 attribute to a Python value."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
