"""`halp-probe train-vlm` as a process of its own: signals to its whole group, and what it prints."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny.fused import write_language, write_vit

pytestmark = pytest.mark.slow

COMMAND = "import sys; from halp_probe.cli import main; sys.exit(main())"
LONGEST = 300  # seconds


def test_a_signal_to_the_whole_group_stops_after_a_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    parts = ["--vision", str(write_vit(tmp_path / "vit")), "--language", str(write_language(tmp_path / "lm"))]
    data = [
        "--shapes",
        "96",
        "--stages",
        "1",
        "--stage1-epochs",
        "9",
        "--batch-size",
        "2",
        "--accumulation",
        "24",
        "--workers",
        "1",
    ]
    command = [sys.executable, "-c", COMMAND, "train-vlm", *parts, *data, "--output-dir", str(tmp_path / "run")]
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    end = time.monotonic() + LONGEST
    while "stage1: step 1/" not in log.read_text() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)  # as batch systems and terminals do
    assert process.wait(LONGEST) == 143, log.read_text()
    assert any((tmp_path / "run" / "stage1" / "checkpoints").glob("checkpoint-*/whole"))
    said = log.read_text().splitlines()
    assert "pictures" in said[0] and "stopped" in said[-1], said  # and nothing of the libraries before or behind
