"""Thirteen folders with the settings of real checkpoints, by the names of their facts."""

from __future__ import annotations

from real.folder import Folder
from real.others import OTHERS
from real.qwen import QWEN

FOLDERS: dict[str, Folder] = {**QWEN, **OTHERS}
