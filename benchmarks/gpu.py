"""python benchmarks/gpu.py --json gpu.json

Run all that a GPU has to show, the most valuable first, each step under its own time limit and all within `--budget`
seconds; gpu.sh makes the environment for it. A step that fails or takes too long stops no other; one that no longer
fits is skipped. The JSON file is written as a whole after every step, so that a kill leaves what is finished. The exit
status is 0 when every step is ok. `--check` runs the same steps with tiny models on a CPU. Standard library only.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from figures import write_figures

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "torchvision", "transformers", "numpy", "scikit-learn", "h5py")
GRACE = 5  # seconds between asking a step to end and killing it
TAIL = 4000  # characters of the output that are kept of a step that is not ok
NO_DEVICE = "no CUDA device"
_FIND_DEVICE = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command that writes its figures to the file behind its last argument, `--json` or `--junitxml`."""

    name: str
    limit: int  # seconds
    command: tuple[str, ...]


def steps(*, check: bool) -> list[Step]:
    """In the order of their worth. Limits are about twice what each may need; together they exceed the budget."""
    tests = shlex.join(str(path.relative_to(ROOT)) for path in gpu_tests())
    preset = "--preset tiny-bfloat16 --device cpu" if check else "--preset qwen2.5-vl-7b --device cuda"
    few = "--images 2 --new-tokens 2 --reference-rows 2 --repeats 1" if check else ""
    whole = "--images 2 --questions 3 --new-tokens 2 --repeats 1 --workers 0 1" if check else "--images 128 --repeats 2"
    sweep = "--rows 300 --width 20 --folds 3 --device cpu" if check else "--device cuda"
    return [
        _step("tests", 90, f"-m pytest -q -m gpu -p no:cacheprovider {tests} --junitxml"),
        _step("extraction", 180, f"benchmarks/extraction.py {preset} --questions-per-image 1 6 {few} --json"),
        _step("whole run", 120, f"benchmarks/whole_run.py {preset} {whole} --rows --json"),
        _step("scoring", 75, f"benchmarks/scoring.py {preset} {'--questions 3 --repeats 1' if check else ''} --json"),
        _step("sweep", 150, f"benchmarks/probes.py {sweep} --json"),
        _step("profile", 60, f"benchmarks/extraction.py {preset} --questions-per-image 6 {few} --profile --json"),
    ]


def gpu_tests() -> list[Path]:
    """The files that hold tests marked `gpu`; others may need packages that are not there."""
    return sorted(path for path in (ROOT / "tests").glob("test_*.py") if "mark.gpu" in path.read_text())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="the report (%(default)s)")
    parser.add_argument("--budget", type=float, default=530, help="seconds for everything (%(default)s)")
    parser.add_argument("--check", action="store_true", help="tiny models on a CPU")
    args = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the running step ends too
    begin = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    if args.check:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    device = find_device(environment)
    if not device and not args.check:
        raise SystemExit(f"{NO_DEVICE}: --check runs everything with tiny models on the CPU")
    results = run(steps(check=args.check), args.json, begin + args.budget, environment, about(device, check=args.check))
    accepted = [result["status"] == "ok" or (args.check and result.get("reason") == NO_DEVICE) for result in results]
    return 0 if all(accepted) else 1


def find_device(environment: dict[str, str]) -> str:
    """The name of the first CUDA device, "" without one. Raises CalledProcessError where torch cannot be imported."""
    command = [sys.executable, "-c", _FIND_DEVICE]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def about(device: str, *, check: bool) -> dict[str, Any]:
    """What the figures are taken on."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": device or "cpu",
        "cores": os.cpu_count(),
        "check": check,
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
    }


def run(
    todo: Sequence[Step], path: Path, deadline: float, environment: dict[str, str], head: dict[str, Any]
) -> list[dict[str, Any]]:
    """A result for each step, written to `path` behind `head` after each; `deadline` in `time.monotonic()` seconds."""
    begin, results = time.monotonic(), []
    path = path.absolute()
    with tempfile.TemporaryDirectory() as scratch:
        for number, step in enumerate(todo):
            left = deadline - time.monotonic()
            if left < step.limit:
                reason = f"{left:.0f} s of the budget are left, and it may take {step.limit}"
                result = _result(step, "skipped", 0) | {"reason": reason}
            else:
                result = run_step(step, Path(scratch) / f"{number}", environment)
            results.append(result)
            taken = {"finished": len(results) == len(todo), "seconds": round(time.monotonic() - begin, 1)}
            write_figures(path, {**head, **taken, "steps": results})
            print(f"{step.name}: {result['status']}, {result['seconds']} s {result.get('reason', '')}", flush=True)
            print(result.get("tail", ""), end="")
    return results


def run_step(step: Step, file: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run it to its end or its limit; `file` is where it writes its figures, and its output goes beside it."""
    log, begin = file.with_suffix(".log"), time.monotonic()
    with log.open("wb") as output:
        limited = ["timeout", f"--kill-after={GRACE}", str(step.limit), *step.command, str(file)]
        process = subprocess.Popen(limited, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            code = process.wait()
        except BaseException:
            process.terminate()  # `timeout` passes it on to all that the step has started
            process.wait()
            raise
    seconds = time.monotonic() - begin
    figures = _read_figures(file, step.command[-1])
    late = code in (124, 137) and seconds >= step.limit  # 137 is also what a process killed for its memory gives
    status = "timed out" if late else "failed" if code else "ok"
    result = _result(step, status, seconds) | {"figures": figures}
    if status != "ok":
        return result | {"exit_status": code, "tail": log.read_text(errors="replace")[-TAIL:]}
    if step.command[-1] == "--junitxml" and figures["tests"] == figures["skipped"]:
        return result | {"status": "skipped", "reason": NO_DEVICE}
    return result


def _step(name: str, limit: int, arguments: str) -> Step:
    return Step(name=name, limit=limit, command=(sys.executable, *shlex.split(arguments)))


def _result(step: Step, status: str, seconds: float) -> dict[str, Any]:
    command = shlex.join(step.command)
    return {"name": step.name, "command": command, "limit": step.limit, "status": status, "seconds": round(seconds, 1)}


def _read_figures(file: Path, kind: str) -> Any:
    """What the step has written so far; None where that is nothing."""
    try:
        if kind == "--json":
            return json.loads(file.read_text())
        suite = next(ElementTree.parse(file).iter("testsuite"))
    except (FileNotFoundError, json.JSONDecodeError, ElementTree.ParseError):  # ended before, or in the middle of it
        return None
    return {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}


if __name__ == "__main__":
    raise SystemExit(main())
