"""All tasks by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from halp_probe.tasks.task import Task
from halp_probe.tasks.vqa import VQA

TASKS: Mapping[str, Task[Any, Any]] = MappingProxyType({task.name: task for task in (VQA,)})
