"""Table of all tasks by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from halp_probe.tasks.caption_qa import CAPTION_QA
from halp_probe.tasks.dense_caption import DENSE_CAPTION
from halp_probe.tasks.stage_a import STAGE_A
from halp_probe.tasks.stage_b import STAGE_B
from halp_probe.tasks.task import Task
from halp_probe.tasks.vqa import VQA

_ALL = (VQA, CAPTION_QA, STAGE_A, STAGE_B, DENSE_CAPTION)

TASKS: Mapping[str, Task[Any, Any]] = MappingProxyType({task.name: task for task in _ALL})
