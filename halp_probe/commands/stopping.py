"""Signals that stop a run: Ctrl-C and SIGTERM after the batch in flight, a second Ctrl-C at once."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType


class StopSignals:
    """Context in which SIGINT and SIGTERM are recorded instead of ending the process."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def __call__(self) -> bool:
        """Return whether a signal asked to stop."""
        return self.received is not None

    @property
    def exit_status(self) -> int:
        """Exit status, 128 + the signal's number: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + int(self.received or 0)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
