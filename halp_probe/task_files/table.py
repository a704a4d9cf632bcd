"""VQA table and its folder of images, as the input of the task `vqa`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from halp_probe.datasets import Rows, read_table
from halp_probe.engine.images import ImagesDir, folder_path
from halp_probe.errors import InputError
from halp_probe.records import Sample
from halp_probe.shards.columns import RESERVED_COLUMNS
from halp_probe.tasks.task import TaskInput
from halp_probe.tasks.vqa import VQA

if TYPE_CHECKING:
    import pandas as pd


def read_vqa(
    vqa_dataset: str | os.PathLike[str] | pd.DataFrame | Rows | None,
    images_dir: ImagesDir | None,
    *,
    answers: bool = True,
) -> TaskInput[Sample, str]:
    """Read the table's samples; without `answers` it needs no ground truth.

    Raises InputError when one of the two is missing or `images_dir` is not a folder, and what `read_table` raises.
    """
    if vqa_dataset is None or images_dir is None:
        raise InputError("`vqa_dataset` CSV and `images_dir` FOLDER are both needed")
    table = read_table(vqa_dataset, RESERVED_COLUMNS, answers=answers)
    if not folder_path(images_dir).is_dir():
        raise InputError(f"`images_dir` {images_dir} is not a folder")
    return TaskInput(task=VQA, items=table.samples, failures=table.failures, images_dir=images_dir)
