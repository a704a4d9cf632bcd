"""Every test runs without network and GPU, on one thread a process, untimed."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("halp_probe", deadline=None, derandomize=True)
settings.load_profile("halp_probe")
