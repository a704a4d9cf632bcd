"""Output of commands on stderr: progress as a bar or as lines, the library's log, and errors with flags in them."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from halp_probe.progress import Bar, Lines, Progress

_PARAMETER = re.compile(r"`(\w+)(?:=([^`]+))?`")


@contextmanager
def progress_on_terminal() -> Iterator[Progress]:
    """Show progress on stderr: one bar on a terminal, a plain line now and then elsewhere."""
    display = Bar(file=sys.stderr) if sys.stderr.isatty() else Lines(_write)
    try:
        yield display
    finally:
        display.close()


@contextmanager
def log_on_terminal(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Write what the library logs to stderr, as plain lines with the command's flags; see `with_flags`."""
    logger, handler = logging.getLogger("halp_probe"), _Stderr(parser)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


def with_flags(message: str, parser: argparse.ArgumentParser) -> str:
    """Return the message with the command's flags in place of the parameters that stand between backticks.

    `max_pixels` becomes --max-pixels, `device='cpu'` --device cpu, and `answers=False` --no-answers, where the command
    has such a flag; other names stay as they are.
    """
    flags = {name: name for action in parser._actions for name in action.option_strings}

    def flag(found: re.Match[str]) -> str:
        name, value = found.group(1).replace("_", "-"), found.group(2)
        if value == "False":
            return flags.get(f"--no-{name}", found.group())
        shown = flags.get(f"--{name}") or flags.get(f"--{name.removesuffix('s')}")
        if shown is None:
            return found.group()
        return shown if value in (None, "True") else f"{shown} {value.strip(chr(39))}"

    return _PARAMETER.sub(flag, message)


def _write(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _Stderr(logging.Handler):
    """Handler that writes to the `sys.stderr` of the moment."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self._parser = parser

    def emit(self, record: logging.LogRecord) -> None:
        _write(with_flags(self.format(record), self._parser))
