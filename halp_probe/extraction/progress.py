"""How far a run is: one tqdm bar on a terminal, a plain line now and then elsewhere. On stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts samples; shows rate, time left and failures so far."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self.total, self.count, self.failed = total, 0, 0
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

    def advance(self, samples: int, *, failed: int = 0) -> None:
        """This many samples more are finished, so many of them failed."""
        self.count += samples
        self.failed += failed
        if self._bar is not None:
            self._bar.update(samples)
            if self.failed:
                self._bar.set_postfix(failed=self.failed)
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._line()

    def _line(self) -> None:
        self._last_line = time.monotonic()
        rate = self.count / max(self._last_line - self._started, 1e-9)
        left = (self.total - self.count) / max(rate, 1e-9)
        print(
            f"{self.count}/{self.total} samples, {rate:.1f}/s, {left:.0f} s left, {self.failed} failed",
            file=self._stream,
            flush=True,
        )
