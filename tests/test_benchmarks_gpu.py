"""What gpu.py promises of its steps, shown on small commands: none stops another, and a kill loses what runs alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
WRITE = "import sys, time, pathlib, os; pathlib.Path(sys.argv[-1]).write_text('{\"rows\": 3}'); "


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu

    return gpu


def python_step(gpu: ModuleType, name: str, code: str, limit: int = 20) -> Any:
    return gpu.Step(name=name, limit=limit, command=(sys.executable, "-S", "-c", code, "--json"))


def test_each_step_ends_in_its_own_way(gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    todo = [
        python_step(gpu, "good", WRITE),
        python_step(gpu, "bad", "print('it broke'); raise SystemExit(3)"),
        python_step(gpu, "slow", WRITE + "print('begun', flush=True); time.sleep(60)", limit=1),
        python_step(gpu, "long", WRITE, limit=500),
        python_step(gpu, "last", WRITE),
    ]
    path = tmp_path / "gpu.json"
    results = gpu.run(todo, path, time.monotonic() + 100, dict(os.environ), {"device": "none"})
    report = json.loads(path.read_text())
    assert report["steps"] == results and report["finished"] and report["device"] == "none"
    assert [(step["name"], step["status"]) for step in results] == [
        ("good", "ok"),
        ("bad", "failed"),
        ("slow", "timed out"),
        ("long", "skipped"),
        ("last", "ok"),
    ]
    good, bad, slow, long, last = results
    assert good["figures"] == slow["figures"] == last["figures"] == {"rows": 3} and bad["figures"] is None
    assert (bad["tail"], bad["exit_status"]) == ("it broke\n", 3) and slow["tail"] == "begun\n" and "tail" not in good
    assert 1 <= slow["seconds"] < 10 and long["seconds"] == 0
    assert "and it may take 500" in long["reason"] and sys.executable in good["command"]
    assert "slow: timed out" in capsys.readouterr().out


def test_the_report_is_written_after_every_step(gpu: ModuleType, tmp_path: Path) -> None:
    """The second step reads it."""
    path = tmp_path / "gpu.json"
    read = f"import json; print([s['name'] for s in json.load(open({str(path)!r}))['steps']]); raise SystemExit(1)"
    todo = [python_step(gpu, "first", WRITE), python_step(gpu, "reader", read)]
    assert gpu.run(todo, path, time.monotonic() + 100, dict(os.environ), {})[1]["tail"] == "['first']\n"


@pytest.mark.parametrize(("how", "limit"), [(signal.SIGTERM, 60), (signal.SIGKILL, 2)])
def test_a_kill_leaves_the_finished_steps(how: signal.Signals, limit: int, tmp_path: Path) -> None:
    """A running step ends with a terminated run, and after a killed one at its own limit."""
    path, running = tmp_path / "gpu.json", tmp_path / "pid"
    wait = f"pathlib.Path({str(running)!r}).write_text(str(os.getpid())); time.sleep(60)"
    code = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import gpu\n"
        "def step(name, code):\n"
        f"    return gpu.Step(name=name, limit={limit}, command=(sys.executable, '-S', '-c', code, '--json'))\n"
        f"gpu.steps = lambda check: [step('first', {WRITE!r}), step('second', {WRITE + wait!r})]\n"
        "gpu.find_device = lambda environment: 'a device'\n"
        f"gpu.main(['--json', {str(path)!r}])"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    try:
        until(lambda: running.exists() and running.read_text() != "")
    finally:
        process.send_signal(how)
        process.wait(timeout=10)
    report = json.loads(path.read_text())
    assert [(step["name"], step["status"]) for step in report["steps"]] == [("first", "ok")]
    assert not report["finished"] and report["device"] == "a device" and report["versions"]["torch"]
    until(lambda: not alive(int(running.read_text())))


def test_tests_that_found_no_device_are_neither_ok_nor_failed(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take seconds to load
    file = tmp_path / "test_it.py"
    command = (sys.executable, "-m", "pytest", "-q", f"--rootdir={tmp_path}", str(file))
    step = gpu.Step(name="tests", limit=60, command=(*command, "--junitxml"))
    monkeypatch.setattr(gpu, "steps", lambda check: [step])
    monkeypatch.setattr(gpu, "find_device", lambda environment: "")
    path = tmp_path / "gpu.json"

    file.write_text("import pytest\n@pytest.mark.skip\ndef test_a(): pass\n")
    assert gpu.main(["--check", "--json", str(path)]) == 0
    (result,) = json.loads(path.read_text())["steps"]
    assert (result["status"], result["reason"]) == ("skipped", "no CUDA device") and result["figures"]["tests"] == 1
    monkeypatch.setattr(gpu, "find_device", lambda environment: "a device")
    assert gpu.main(["--json", str(path)]) == 1  # there it may not be skipped

    file.write_text("def test_a(): pass\ndef test_b(): assert 0\n")
    assert gpu.main(["--check", "--json", str(path)]) == 1
    (result,) = json.loads(path.read_text())["steps"]
    assert result["status"] == "failed" and result["figures"] == {"tests": 2, "failures": 1, "errors": 0, "skipped": 0}


def test_no_device_is_an_error_at_once(gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find_device", lambda environment: "")
    with pytest.raises(SystemExit, match="no CUDA device: --check"):
        gpu.main(["--json", str(tmp_path / "gpu.json")])
    assert not list(tmp_path.iterdir())


def test_both_kinds_of_run_have_the_same_steps(gpu: ModuleType) -> None:
    """Same scripts and limits; what is not checked on a CPU first may fail on the GPU."""
    full, small = gpu.steps(check=False), gpu.steps(check=True)
    assert [(step.name, step.limit, step.command[1]) for step in full] == [
        (step.name, step.limit, step.command[1]) for step in small
    ]
    assert full[0] == small[0] and "tests/test_vision_attention.py" in full[0].command
    assert all("cuda" in step.command and "cuda" not in small[k].command for k, step in enumerate(full[1:], 1))
    assert full[0].limit + full[1].limit + full[2].limit + full[3].limit <= 530


def test_what_is_missing_is_told_with_its_bounds(gpu: ModuleType) -> None:
    import missing

    lines = missing.requirements()
    assert {"array-api-compat", "h5py", "qwen-vl-utils", "torch", "transformers", "pytest", "requests"} <= set(lines)
    assert lines["h5py"].startswith("h5py>=") and "num2words" not in lines and "streamlit" not in lines
    assert missing.is_met("numpy>=1") and not missing.is_met("numpy>=999") and not missing.is_met("no-such-package>=1")


def until(holds: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
