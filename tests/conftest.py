"""Every test runs without network and GPU, on one thread a process, untimed."""

from __future__ import annotations

import os
import tempfile

from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Models' own code is copied to a folder of each test process: two of them must not write one, nor touch the user's.
MODULES = tempfile.TemporaryDirectory(prefix="halp_probe_modules_")
os.environ["HF_MODULES_CACHE"] = MODULES.name
settings.register_profile("halp_probe", deadline=None, derandomize=True)
settings.load_profile("halp_probe")
