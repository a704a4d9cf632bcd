"""Extractions in processes of their own that can be killed: forked from a server that has imported torch already."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

WINDOW = 17  # samples: shards are written between windows, and fall on none of their bounds
OWN_PROCESS = 20  # samples a shard: the full ones of 30 are written in a process of their own
PRELOAD = [
    "extract_process",
    "torch",
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    "transformers.models.qwen2_5_vl.processing_qwen2_5_vl",
    "qwen_vl_utils",
    "halp_probe.engine.engine",
    "halp_probe.extraction.run",
]


def start_extraction(arguments: Sequence[str], output: Path) -> BaseProcess:
    """Run `extract.py` with these arguments, in small windows; what it prints goes to `output`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=_extract, args=(list(arguments), str(output)))
    process.start()
    return process


def _extract(arguments: list[str], output: str) -> None:
    import torch

    from halp_probe.cli import run_script
    from halp_probe.engine import batching
    from halp_probe.shards import run_folder

    batching.WINDOW = WINDOW
    run_folder.OWN_PROCESS = OWN_PROCESS
    torch.set_num_threads(1)
    with Path(output).open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        status = run_script("extract", None, arguments)
    os._exit(status)
