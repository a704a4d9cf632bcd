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
from halp_probe.datasets import Table
from halp_probe.engine.images import ImageFolder, ImagesDir, folder_path
from halp_probe.records import Failure, Sample
from halp_probe.tables.picture_folder import PictureFolder
from halp_probe.task_files.named_hub import HubRows
from halp_probe.task_files.named_reading import (
    Reading,
    differing,
    find_images,
    open_source,
    read_questions,
    refuse_pictures,
    table_of,
)
from halp_probe.task_files.table_pictures import collect_pictures
from halp_probe.tasks.task import TaskInput
from halp_probe.tasks.vqa import vqa_by

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)


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
    asked = read_questions(source, refuse_pictures if pictures is None else pictures.keep)
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


def _left_out_notes(left_out: Mapping[str, int]) -> list[str]:
    return [f"{count:,} rows are not asked: {reason}" for reason, count in left_out.items()]


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
