"""The scripts in docs/slurm.md run, under bash, with stand-ins for Slurm; each command line that comes of them is one.

Nothing is loaded: the stand-ins write down how they were called, and the commands' own parsers read that.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from halp_probe.answering.options import AnswerOptions
from halp_probe.cli import COMMANDS

PAGE = (Path(__file__).parents[1] / "docs" / "slurm.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SCRIPTS = {re.match(r"#!/bin/bash\n# (\w+\.sh)", block)[1]: block for block in BLOCKS if block.startswith("#!")}
TYPED = [block for block in BLOCKS if not block.startswith("#!")]

RECORD = """
with open({calls!r}, "a") as file:
    file.write(json.dumps([sys.argv[0].rsplit("/", 1)[-1], *sys.argv[1:]]) + "\\n")
"""
RUN_BATCH = """
words = iter(sys.argv[1:])
script = next(word for word in words if not word.startswith("--"))
told = " ".join([*sys.argv[1:], *(line for line in open(script, encoding="utf-8") if line.startswith("#SBATCH"))])
tasks = re.search(r"--array=0-(\\d+)", told)
arguments = list(words)
for task in range(int(tasks[1]) + 1 if tasks else 1):
    environment = {**os.environ, "SLURM_JOB_ID": str(70000 + task)}
    if tasks:
        environment["SLURM_ARRAY_TASK_ID"] = str(task)
    subprocess.run(["bash", script, *arguments], env=environment, stdout=sys.stderr, check=True)
print("4711")
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A folder with the page's scripts, and stand-ins for the programs that they call, in `bin`."""
    for name, text in SCRIPTS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()
    record = RECORD.format(calls=str(tmp_path / "calls"))
    for name in ("halp-probe", "python", "hf", "scontrol", "curl", "../vllm/bin/vllm"):
        stand_in(tmp_path / "bin" / name, record)
    stand_in(tmp_path / "bin/sbatch", record + RUN_BATCH)
    return tmp_path


def stand_in(path: Path, code: str) -> None:
    path = Path(os.path.normpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable} -S\nimport json, os, re, subprocess, sys\n{code}", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def environment(cluster: Path) -> dict[str, str]:
    path = f"{cluster / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "SCRATCH": str(cluster), "SLURM_JOB_ID": "5", "GRACE": "0.2"}


def test_every_command_line_of_the_page_is_one(cluster: Path) -> None:
    for block in TYPED:
        subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=cluster, env=environment(cluster), check=True)
    calls = [json.loads(line) for line in (cluster / "calls").read_text().splitlines()]
    scripts = {"extract.py": "extract", "train_probes.py": "train-probes"}
    asked: list[tuple[str, list[str]]] = []
    for program, *words in calls:
        if program == "halp-probe":
            asked.append((words[0], words[1:]))
        elif program == "python" and words[0] != "-c":
            asked.append((scripts[words[0]], words[1:]))
    outputs: list[tuple[str, ...]] = []
    for command, words in asked:
        parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
        importlib.import_module(COMMANDS[command][0]).add_arguments(parser)
        args = parser.parse_args(words)
        if hasattr(args, "engine"):
            AnswerOptions.of(args)
        named = ("output_dir", "output_path", "out", "captions")  # qa's default name tells captions from images
        outputs.append((command, *(str(getattr(args, name, None)) for name in named)))
    long = {"extract", "train-probes", "score", "compare", "ablate", "vqa", "qa", "caption", "stage-a", "stage-b"}
    assert {command for command, _ in asked} == long | {"dense-caption", "label"}
    assert len(set(outputs)) == len(outputs)  # no two jobs write one file


def test_every_block_is_bash() -> None:
    assert len(SCRIPTS) >= 8 and len(TYPED) >= 6
    for block in BLOCKS:
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def requeued(cluster: Path) -> bool:
    calls = cluster / "calls"
    return calls.exists() and ["scontrol", "requeue", "5"] in map(json.loads, calls.read_text().splitlines())


WORK = """
import sys, time
from pathlib import Path
from halp_probe.engine.stopping import StopSignals
with StopSignals() as stop:
    Path("started").touch()
    for _ in range(600):
        time.sleep(0.05)  # a batch
        if stop():
            sys.exit(stop.exit_status)
"""


@pytest.mark.parametrize(
    ("sent", "queued_again"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)], ids=["time limit", "preempted"]
)
def test_a_signal_stops_the_command_and_the_time_limit_alone_queues_it_again(
    cluster: Path, sent: signal.Signals, queued_again: bool
) -> None:
    job = subprocess.Popen(
        ["bash", "-c", f"exec bash requeue.sh {shlex.join([sys.executable, '-c', WORK])}"],
        cwd=cluster,
        env={**environment(cluster), "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    try:
        for _ in range(600):
            if (cluster / "started").exists():
                break
            time.sleep(0.05)
        job.send_signal(sent)
        assert job.wait(timeout=60) == 143
    finally:
        job.kill()
    assert requeued(cluster) == queued_again


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_command_that_ends_by_itself_is_not_run_again(cluster: Path, status: int) -> None:
    words = ["bash", "requeue.sh", "bash", "-c", f"exit {status}"]
    assert subprocess.run(words, cwd=cluster, env=environment(cluster), check=False).returncode == status
    assert not requeued(cluster)
