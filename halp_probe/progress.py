"""Progress of long work: callbacks that receive each step, and callbacks that show it as a bar or as lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

_SECONDS_BETWEEN_LINES = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Step:
    """Progress of one piece of work, which begins with a step of `done` 0.

    Examples
    --------
    >>> import halp_probe
    >>> steps = []
    >>> _ = halp_probe.extract("vqa.csv", "images", "few", model="shapes", limit=2, progress=steps.append)
    >>> steps[0].done, steps[-1].done, steps[-1].total, steps[-1].failed
    (0, 2, 2, 0)
    """

    done: int
    total: int
    failed: int = 0
    unit: str = "sample"
    note: str = ""  # what else to show, such as a running score


Progress: TypeAlias = Callable[[Step], None]
ProgressChoice: TypeAlias = Progress | Literal["tqdm", "log"] | None


def silent(_step: Step) -> None:
    """Show nothing."""


class Counter:
    """Counter of the finished items of one piece of work, which passes each step on."""

    def __init__(self, progress: Progress, total: int, *, unit: str = "sample", note: str = "") -> None:
        self._progress, self._total, self._unit = progress, total, unit
        self._done = self._failed = 0
        self._report(note)

    def advance(self, count: int, *, failed: int = 0, note: str = "") -> None:
        """Add `count` finished items, of which `failed` failed."""
        self._done += count
        self._failed += failed
        self._report(note)

    def _report(self, note: str) -> None:
        self._progress(Step(done=self._done, total=self._total, failed=self._failed, unit=self._unit, note=note))


class Bar:
    """Display of steps as a tqdm bar; `options` go to tqdm, which chooses a widget in a notebook."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._bar: Any = None

    def __call__(self, step: Step) -> None:
        """Show the step."""
        from tqdm.auto import tqdm

        if self._bar is None or step.done == 0:
            self.close()
            self._bar = tqdm(total=step.total, unit=step.unit, **self._options)
        self._bar.update(step.done - self._bar.n)
        failed = [f"failed={step.failed}"] if step.failed else []
        self._bar.set_postfix_str(", ".join([*failed, step.note] if step.note else failed))

    def close(self) -> None:
        """Close the bar that is shown, if any."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Lines:
    """Display of steps as a plain line every ten seconds, and one at the end of each piece of work."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._last: Step | None = None  # not written yet
        self._written: Step | None = None
        self._started = self._last_line = 0.0

    def __call__(self, step: Step) -> None:
        """Write the step if the last line is ten seconds old."""
        if step.done == 0:
            self.close()
            self._started, self._written = time.monotonic(), None
            self._last_line = self._started
            return
        if step == self._written:  # nothing new
            return
        self._last = step
        if step.done >= step.total or time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self.close()

    def close(self) -> None:
        """Write the last step if it has not been written."""
        if self._last is None:
            return
        step = self._written = self._last
        self._last = None
        self._last_line = time.monotonic()
        rate = step.done / max(self._last_line - self._started, 1e-9)
        left = (step.total - step.done) / max(rate, 1e-9)
        note = f", {step.note}" if step.note else ""
        self._write(
            f"{step.done}/{step.total} {step.unit}s, {rate:.1f}/s, {left:.0f} s left, {step.failed} failed{note}"
        )


@contextmanager
def display(progress: ProgressChoice) -> Iterator[Progress]:
    """Yield the callback that a caller chose: "tqdm" (a bar), "log" (lines of `logging`), its own function, or None."""
    if progress is None or callable(progress):
        yield progress or silent
        return
    callback = Bar() if progress == "tqdm" else Lines(_log.info)
    try:
        yield callback
    finally:
        callback.close()
