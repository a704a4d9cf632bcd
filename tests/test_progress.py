"""Progress tells how far, how fast, how long and how many failed: as a bar on a terminal, as lines elsewhere."""

from __future__ import annotations

import io

import pytest

from halp_probe.engine import progress
from halp_probe.engine.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    clock = iter([0.0, 5.0, 10.0, 12.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with Progress(8, stream) as shown:
        shown.advance(2)  # at 5 s: too early for a line
        shown.advance(2)  # at 10 s
    assert stream.getvalue().splitlines() == [
        "4/8 samples, 0.3/s, 12 s left, 0 failed",
        "4/8 samples, 0.2/s, 20 s left, 0 failed",
    ]


def test_a_bar_on_a_terminal() -> None:
    stream = Terminal()
    with Progress(4, stream) as shown:
        shown.advance(1)
        shown.advance(2, failed=2)
    last = stream.getvalue().split("\r")[-1]
    assert "3/4" in last and "failed=2" in last and "sample/s" in last
