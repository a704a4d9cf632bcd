"""`transformers serve` on this machine, in a process of its own: a real OpenAI-compatible server of a model folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_RUNNING = re.compile(r"Uvicorn running on (http://127\.0\.0\.1:\d+)")
_PATIENCE = 180.0  # seconds to load a model on a busy machine


@dataclass(frozen=True)
class ModelServer:
    """One model, float32 on the CPU; it answers to the name `model` alone."""

    url: str  # up to and with /v1
    model: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """As the kernel does when memory runs out."""
        self.process.kill()
        self.process.wait()


@contextmanager
def serving_model(folder: Path, log: Path) -> Iterator[ModelServer]:
    """A server that is ready, on a port that was free; what it prints goes to `log`."""
    program = [sys.executable, "-m", "transformers.cli.transformers", "serve", os.fspath(folder)]
    flags = ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", "0"]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen([*program, *flags], stdout=file, stderr=subprocess.STDOUT, env=offline)
    try:
        yield ModelServer(f"{_address(process, log)}/v1", os.fspath(folder), process)
    finally:
        process.kill()
        process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until and process.poll() is None:
        if found := _RUNNING.search(log.read_text(errors="replace")):
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"transformers serve is not there:\n{log.read_text(errors='replace')}")
