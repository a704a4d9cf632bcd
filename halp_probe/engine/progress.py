"""How far a run is: one tqdm bar on a terminal, a plain line now and then elsewhere. On stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts samples; shows rate, time left, failures so far and what `note` says."""

    def __init__(self, total: int, stream: TextIO | None = None, note: str = "") -> None:
        self.total, self.count, self.failed, self.note = total, 0, 0, note
        self._stream = stream or sys.stderr
        self._bar = tqdm(total=total, unit="sample", file=self._stream) if self._stream.isatty() else None
        self._started = self._last_line = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self.count:
            self._line()

    def advance(self, samples: int, *, failed: int = 0, note: str = "") -> None:
        """This many samples more are finished, so many of them failed."""
        self.count += samples
        self.failed += failed
        self.note = note
        if self._bar is not None:
            self._bar.update(samples)
            told = [f"failed={self.failed}"] if self.failed else []
            self._bar.set_postfix_str(", ".join([*told, note] if note else told))
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._line()

    def _line(self) -> None:
        self._last_line = time.monotonic()
        rate = self.count / max(self._last_line - self._started, 1e-9)
        left = (self.total - self.count) / max(rate, 1e-9)
        note = f", {self.note}" if self.note else ""
        print(
            f"{self.count}/{self.total} samples, {rate:.1f}/s, {left:.0f} s left, {self.failed} failed{note}",
            file=self._stream,
            flush=True,
        )
