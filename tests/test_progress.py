"""Progress tells how far, how fast, how long and how many failed: as a bar, as lines, or to a callback."""

from __future__ import annotations

import io
import logging

import pytest

from halp_probe import progress
from halp_probe.commands.terminal import progress_on_terminal
from halp_probe.progress import Counter, Lines, Step, display


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    clock = iter([0.0, 5.0, 10.0, 10.0, 12.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    display = Lines(lines.append)
    counter = Counter(display, 8)
    counter.advance(2)  # at 5 s: too early for a line
    counter.advance(2)  # at 10 s
    assert lines == ["4/8 samples, 0.4/s, 10 s left, 0 failed"]
    counter.advance(2, failed=1)  # at 12 s: too early
    display.close()  # at 20 s
    assert lines[1:] == ["6/8 samples, 0.3/s, 7 s left, 1 failed"]


def test_a_step_is_written_once() -> None:
    lines: list[str] = []
    display = Lines(lines.append)
    for step in (
        Step(done=0, total=3),
        Step(done=3, total=3),
        Step(done=3, total=3),
        Step(done=3, total=3, failed=1),
        Step(done=0, total=3),
        Step(done=3, total=3),
    ):
        display(step)
    display.close()
    assert [line.split(",")[0] + line.split(",")[-1] for line in lines] == [
        "3/3 samples 0 failed",
        "3/3 samples 1 failed",
        "3/3 samples 0 failed",
    ]


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with progress_on_terminal() as report:
        counter = Counter(report, 4)
        counter.advance(1)
        counter.advance(2, failed=2)
    last = stream.getvalue().split("\r")[-1]
    assert "3/4" in last and "failed=2" in last and "sample/s" in last


def test_each_piece_of_work_begins_anew() -> None:
    lines: list[str] = []
    display = Lines(lines.append)
    for unit in ("picture", "sample"):
        Counter(display, 3, unit=unit).advance(3)
    display.close()
    assert [line.split(",")[0] for line in lines] == ["3/3 pictures", "3/3 samples"]


def test_a_callback_is_given_each_step() -> None:
    steps: list[Step] = []
    with display(steps.append) as report:
        Counter(report, 2, note="first").advance(1, failed=1, note="second")
    assert steps == [Step(done=0, total=2, note="first"), Step(done=1, total=2, failed=1, note="second")]


def test_lines_of_logging(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "halp_probe"), display("log") as report:
        Counter(report, 2).advance(2)
    assert caplog.records[-1].message.startswith("2/2 samples")
