"""Benchmarks by name as tables: their questions with ids, groups and fixed folds, and their folder of pictures."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halp_probe.catalog.benchmark import DATASET, FOLD, FOLD_UNIT, Benchmark, NotAsked, Question
from halp_probe.catalog.entries import Chosen, choose
from halp_probe.catalog.folds import fold_of, split_hash, units
from halp_probe.datasets import read_table
from halp_probe.errors import InputError
from halp_probe.records import Failure, Sample
from halp_probe.shards.columns import RESERVED_COLUMNS
from halp_probe.task_files.named_files import DownloadError, NamedFiles, images_folder, in_folder
from halp_probe.task_files.named_hub import HubRows, hub_rows
from halp_probe.tables.records import text_of

if TYPE_CHECKING:
    import pandas as pd

_CORE = ("question_id", "image_id", "question", "answer")
_OWN = frozenset((*_CORE, DATASET, FOLD, FOLD_UNIT)) | RESERVED_COLUMNS
_NO_PICTURE = "published without a picture"
_log = logging.getLogger(__name__)
