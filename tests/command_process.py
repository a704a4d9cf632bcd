"""Commands in processes of their own that can be killed: forked from a server that has imported torch already."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from extract_process import PRELOAD


def start_command(arguments: Sequence[str], output: Path) -> BaseProcess:
    """Run `halp-probe` with these arguments; what it prints goes to `output`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOAD, "command_process", "halp_probe.answering.local"])
    process = context.Process(target=_run, args=(list(arguments), str(output)))
    process.start()
    return process


def _run(arguments: list[str], output: str) -> None:
    import torch

    from halp_probe import cli

    torch.set_num_threads(1)
    with Path(output).open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        status = cli.main(arguments)
    os._exit(status)
