"""VQA table and its pictures, as the input of the task `vqa`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from halp_probe.datasets import Rows, read_table
from halp_probe.engine.images import ImagesDir, folder_path
from halp_probe.errors import InputError
from halp_probe.records import Sample
from halp_probe.shards.columns import RESERVED_COLUMNS
from halp_probe.tables.picture_folder import PictureFolder
from halp_probe.task_files.table_pictures import collect_pictures
from halp_probe.tasks.task import TaskInput
from halp_probe.tasks.vqa import VQA

if TYPE_CHECKING:
    import pandas as pd

PICTURES = "pictures"  # the folder in that of a run's output


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Options of how a table is read.

    `columns`: our names of columns, each with theirs; `pictures_dir`: the folder for pictures that are not files yet;
    `allow_urls`: whether they are fetched by their URLs.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    pictures_dir: Path
    allow_urls: bool = False


def read_vqa(
    vqa_dataset: str | os.PathLike[str] | pd.DataFrame | Rows | None,
    images_dir: ImagesDir | None,
    options: TableOptions,
    *,
    answers: bool = True,
) -> TaskInput[Sample, str]:
    """Read the table's samples; without `answers` it needs no ground truth.

    Pictures that the table holds, or whose URLs it has, become files in `pictures_dir`; all others are files in
    `images_dir`. Raises InputError when the table or the folder of images is missing, and what `read_table` raises.
    """
    if vqa_dataset is None:
        raise InputError("`vqa_dataset` FILE is needed, a table of questions")
    if images_dir is not None and not folder_path(images_dir).is_dir():
        raise InputError(f"`images_dir` {images_dir} is not a folder")
    pictures = PictureFolder(options.pictures_dir)
    table = read_table(vqa_dataset, RESERVED_COLUMNS, answers=answers, columns=options.columns, keep=pictures.keep)
    found = collect_pictures(table, pictures, images_dir, allow_urls=options.allow_urls)
    return TaskInput(task=VQA, items=found.samples, failures=found.failures, images_dir=found.images_dir)
