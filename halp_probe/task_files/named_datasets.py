"""Benchmarks by name as tables: their questions with ids, groups and fixed folds, and their folder of pictures."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halp_probe.catalog.benchmark import FOLD, Benchmark
from halp_probe.catalog.entries import Chosen, choose
from halp_probe.catalog.folds import split_hash
from halp_probe.datasets import Table, read_table
from halp_probe.engine.images import ImageFolder, ImagesDir, folder_path
from halp_probe.errors import InputError
from halp_probe.records import Failure, Sample
from halp_probe.shards.columns import RESERVED_COLUMNS
from halp_probe.tables.picture_folder import PictureFolder
from halp_probe.task_files.named_files import DownloadError, NamedFiles, images_folder
from halp_probe.task_files.named_hub import HubRows
from halp_probe.task_files.named_rows import Asked, Keep, ask, equal_pictures, table_rows
from halp_probe.task_files.table_pictures import collect_pictures
from halp_probe.tasks.task import TaskInput
from halp_probe.tasks.vqa import vqa_by

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)
_NOT_AS_PUBLISHED = (TypeError, ValueError, AttributeError, KeyError, IndexError)  # of a row that is made otherwise


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A benchmark that is read: its questions, with fixed folds, and its pictures.

    Attributes
    ----------
    benchmark
        Its declaration: the label rule, the groups to look into, known faults, licence, citation.
    parts
        Parts that were read.
    samples
        The N questions; the columns of `extra` begin with `dataset` and end with `fold_unit` and `fold`.
    failures
        Rows that cannot be asked, and why.
    left_out
        Reason -> number of the rows that are no question with a picture.
    images_dir
        Folder of the pictures, which `image_id` names.
    notes
        What a reader must know, a sentence each: files that are missing, numbers that differ.

    Examples
    --------
    >>> import halp_probe
    >>> rows = '{"question_id": 1, "image": "COCO_val2014_1.jpg", "text": "Is there a cat?", "label": "no"}'
    >>> _ = open("coco_pope_random.json", "w").write(rows)
    >>> pope = halp_probe.dataset("pope:random", ".")
    >>> pope.samples[0].question_id, pope.samples[0].extra["fold"], pope.benchmark.rule
    ('pope-random-1', '4', 'yes_no')
    >>> pope.notes[0]
    'coco_pope_random.json has 1 of 3,000 rows: this is not the whole of POPE'
    """

    benchmark: Benchmark
    parts: tuple[str, ...]
    samples: tuple[Sample, ...] = field(repr=False)
    failures: tuple[Failure, ...] = field(repr=False)
    left_out: Mapping[str, int]
    images_dir: ImagesDir
    notes: tuple[str, ...]

    @property
    def rows(self) -> list[dict[str, str]]:
        """Questions as the list of dicts that `extract` takes."""
        return [
            {
                "question_id": sample.question_id,
                "image_id": sample.image_id,
                "question": sample.question,
                "answer": sample.answer,
                **sample.extra,
            }
            for sample in self.samples
        ]

    @cached_property
    def split(self) -> str:
        """Hash of the fixed folds, to compare with another lab's: SHA-256 of the sorted `question_id TAB fold`."""
        return split_hash(
            (sample.question_id for sample in self.samples), (sample.extra[FOLD] for sample in self.samples)
        )

    def frame(self) -> pd.DataFrame:
        """Return the questions as a DataFrame; all columns are texts."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def origin(self) -> dict[str, Any]:
        """Return what the record of a run says of the benchmark; JSON values."""
        return {
            "benchmark": self.benchmark.name,
            "benchmark_parts": list(self.parts),
            "benchmark_questions": len(self.samples),
            "benchmark_split": self.split,
            "benchmark_left_out": dict(self.left_out),
            "benchmark_notes": list(self.notes),
        }

    def task_input(self) -> TaskInput[Sample, str]:
        """Return the questions as the input of the task `vqa`, judged by the benchmark's rule."""
        return TaskInput(
            task=vqa_by(self.benchmark.rule or "auto"),
            items=self.samples,
            failures=self.failures,
            images_dir=self.images_dir,
            origin=self.origin(),
        )


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a benchmark's pictures and fields are found.

    `images_dir`: the folder of pictures, None to look below the data root; `pictures_dir`: the folder for those that
    its files hold or that are fetched, None for nowhere; `columns`: our names of fields, for `lmms-eval`.
    """

    images_dir: ImagesDir | None = None
    pictures_dir: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    allow_urls: bool = False
    allow_links: bool = False


def dataset(
    name: str,
    data_root: str | os.PathLike[str] | None = None,
    *,
    images_dir: str | os.PathLike[str] | None = None,
    pictures_dir: str | os.PathLike[str] | None = None,
    columns: Mapping[str, str] | None = None,
    allow_urls: bool = False,
    allow_links: bool = False,
) -> Dataset:
    """Read a benchmark by its name, with ids, groups and fixed folds; `halp-probe datasets` lists the names.

    Parameters
    ----------
    name
        Such as `repope`, parts of one (`pope:random,popular`), `vlmevalkit:FILE.tsv` or `lmms-eval:REPOSITORY:SPLIT`.
    data_root
        Folder of the files as they are published.
    images_dir
        Folder of the pictures; None: found below `data_root`.
    pictures_dir
        Folder for pictures that the benchmark's files hold, or that are fetched.
    columns
        For `lmms-eval`: our names of fields, each with the data set's.
    allow_urls
        Whether pictures that are not there are fetched by the benchmark's URLs.
    allow_links
        Whether links in `images_dir` that lead out of it are followed.

    Raises
    ------
    InputError
        For a name that is not known, and for files that are missing, broken or not as published.

    Examples
    --------
    >>> import halp_probe
    >>> try:
    ...     halp_probe.dataset("pop", ".")
    ... except halp_probe.InputError as error:
    ...     print(str(error)[:70])
    `dataset` 'pop' is no benchmark that is known by name; did you mean po
    """
    reading = Reading(
        images_dir=None if images_dir is None else ImageFolder(Path(images_dir), allow_links),
        pictures_dir=None if pictures_dir is None else Path(pictures_dir),
        columns=columns or {},
        allow_urls=allow_urls,
        allow_links=allow_links,
    )
    return read_dataset(choose(name, columns), None if data_root is None else Path(data_root), reading)


def read_dataset(chosen: Chosen, root: Path | None, reading: Reading) -> Dataset:
    """Read what was chosen; see `dataset`. Pictures in the files are written where `reading` says."""
    pictures = None if reading.pictures_dir is None else PictureFolder(reading.pictures_dir)
    source = open_source(chosen, root, reading.pictures_dir)
    asked = read_questions(source, _refuse if pictures is None else pictures.keep)
    benchmark = source.benchmark
    images_dir = find_images(source, asked, reading)
    table, failures = table_of(benchmark, asked, folder_path(images_dir))
    if pictures is not None:
        if isinstance(source, HubRows):
            for name in asked.names:
                pictures.used |= pictures.adopt(name)
        if reading.allow_urls:
            table = replace(table, samples=tuple(_by_url(sample, images_dir) for sample in table.samples))
        found = collect_pictures(table, pictures, images_dir, allow_urls=reading.allow_urls)
        table, images_dir = Table(found.samples, found.failures), found.images_dir
    return Dataset(
        benchmark=benchmark,
        parts=source.parts,
        samples=table.samples,
        failures=(*table.failures, *failures),
        left_out=asked.left_out,
        images_dir=images_dir,
        notes=(*source.notes, *differing(source), *_left_out_notes(asked.left_out)),
    )


def open_source(chosen: Chosen, root: Path | None, pictures_dir: Path | None) -> NamedFiles | HubRows:
    """Return the source of the rows. Raises InputError where the data root or a needed file is missing."""
    benchmark, parts = chosen.benchmark, chosen.parts
    if root is not None and not root.is_dir():
        raise InputError(f"`data_root` {root} is not a folder; pass the folder of {benchmark.title}'s files")
    if not benchmark.files:
        return HubRows(benchmark, parts, root, pictures_dir)
    if root is None:
        raise InputError(f"`data_root` DIR is needed, the folder of {benchmark.title}'s files ({benchmark.where})")
    files = NamedFiles(benchmark, parts, root)
    missing = [file for file in files.missing if file.needed]
    absent = dict.fromkeys(file.part for file in missing)
    left = tuple(part for part in parts if part not in absent)
    if "" in absent or (parts and not left):
        names = ", ".join(file.name for file in missing)
        raise DownloadError(f"{root} lacks {names}; get it from {benchmark.where}, or pass another `data_root`")
    files.parts = left
    if absent:
        files.note(f"no files of {', '.join(absent)}: this is not the whole of {benchmark.title}")
    return files


def read_questions(source: NamedFiles | HubRows, keep: Keep) -> Asked:
    """Read all rows. Raises DownloadError for a file that is not as published."""
    try:
        asked = ask(source.benchmark.read(source), keep)
    except InputError:
        raise
    except _NOT_AS_PUBLISHED as error:
        raise DownloadError(
            f"{source.place}: not as {source.benchmark.title} is published ({error!r}); get the file again from "
            f"{source.benchmark.where}"
        ) from error
    if isinstance(source, HubRows) and source.not_asked:
        left_out = {**asked.left_out, "question that CaptionQA's own task leaves out": len(source.not_asked)}
        return replace(asked, left_out=left_out)
    return asked


def find_images(source: NamedFiles | HubRows, asked: Asked, reading: Reading) -> ImagesDir:
    """Return the folder of the pictures: the given one, or what is found below the data root."""
    if reading.images_dir is not None:
        if not folder_path(reading.images_dir).is_dir():
            raise InputError(f"`images_dir` {reading.images_dir} is not a folder")
        return reading.images_dir
    if source.root is None:
        return ImageFolder(reading.pictures_dir or Path(), reading.allow_links)
    return ImageFolder(images_folder(source.root, source.benchmark.images, asked.names), reading.allow_links)


def table_of(benchmark: Benchmark, asked: Asked, images_dir: Path) -> tuple[Table, list[Failure]]:
    """Return the questions as a checked table, and those whose picture is broken.

    Raises DownloadError if there is no question, and what `read_table` raises.
    """
    if not asked.questions:
        why = "; ".join(f"{count} rows: {reason}" for reason, count in asked.left_out.items()) or "no rows"
        raise DownloadError(f"{benchmark.title} has no question with a picture here ({why}); check the download")
    rows = table_rows(benchmark, asked.questions, equal_pictures(images_dir, asked.names))
    return read_table(rows, RESERVED_COLUMNS), asked.failures


def differing(source: NamedFiles | HubRows) -> list[str]:
    """Return a note on each file that has another number of rows than the whole one."""
    title = source.benchmark.title
    return [
        f"{Path(file.name).name} has {count:,} of {file.rows:,} rows: this is not the whole of {title}"
        if count < file.rows
        else f"{Path(file.name).name} has {count:,} rows, {count - file.rows:,} more than {title} published: another "
        "version?"
        for file, count in source.counts.items()
        if file.rows is not None and count != file.rows
    ]


def _left_out_notes(left_out: Mapping[str, int]) -> list[str]:
    return [f"{count:,} rows are not asked: {reason}" for reason, count in left_out.items()]


def _refuse(_data: bytes) -> str:
    raise InputError("its files hold the pictures: pass `pictures_dir`, a folder to write them to")


def _by_url(sample: Sample, images_dir: ImagesDir) -> Sample:
    """Return the sample with its URL in place of its picture's name, where that is no file."""
    url = sample.extra.get("url", "")
    return (
        replace(sample, image_id=url) if url and not (folder_path(images_dir) / sample.image_id).is_file() else sample
    )


def read_named(name: str, data_root: Path | None, reading: Reading) -> Dataset:
    """Read a benchmark by its name, and log its notes. Raises as `dataset` does."""
    found = read_dataset(choose(name, reading.columns), data_root, reading)
    for note in found.notes:
        _log.info("%s: %s.", found.benchmark.title, note)
    return found
