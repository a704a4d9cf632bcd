"""Time, peak memory, and what the machine could do at most."""

from __future__ import annotations

import datetime
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
PEAK_MEMORY = {
    "cuda": "allocated on the device, weights included",
    "cpu": "of the whole process, weights included",
    "monotone": "of the whole process since its start (it never falls: /proc/self/clear_refs is not writable)",
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run."""

    result: Any
    seconds: float
    peak_bytes: int


def measured(run: Callable[[], Any], device: torch.device) -> Measured:
    """Run once; the time ends when the device is done."""
    _reset_peak(device)
    _finish(device)
    start = time.perf_counter()
    result = run()
    _finish(device)
    return Measured(result=result, seconds=time.perf_counter() - start, peak_bytes=_peak(device))


def matmul_rate(device: torch.device, dtype: torch.dtype, size: int, repeats: int) -> float:
    """FLOP/s of the best of `repeats` products of two [size, size] matrices."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = min(measured(lambda: left @ right, device).seconds for _ in range(repeats + 1))  # the first warms up
    return 2 * size**3 / best


def environment(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What the numbers were taken on."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peak_memory": PEAK_MEMORY[device.type if device.type == "cuda" or _clear_peak() else "monotone"],
    }


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        _clear_peak()


def _clear_peak() -> bool:
    """Let the peak of the resident set start anew; whether that is allowed here."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
