"""Ask one endpoint many things, several at once, until all are answered, one cannot be, or the run is to stop."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from halp_probe.endpoint import Failed, Stopped

_IN_A_ROW = 10  # failures one after the other before a run ends
_GLANCE = 0.1  # seconds between two looks at whether to stop
_END: Any = object()

_Item = TypeVar("_Item")
_Given = TypeVar("_Given")


@dataclass(frozen=True)
class Answer(Generic[_Item, _Given]):
    """What asking about an item gave."""

    item: _Item
    given: _Given


class Patience:
    """Ends with an endpoint that is down; one that merely refuses some items has replied to others."""

    def __init__(self) -> None:
        self.works = False  # whether it has replied to anything, in an earlier run perhaps
        self.replies = 0
        self._in_a_row = 0

    def replied(self) -> None:
        self.works, self._in_a_row, self.replies = True, 0, self.replies + 1

    def ends_with(self, failed: Failed) -> bool:
        """Whether this failure is one too many."""
        self._in_a_row += failed.passing or not self.works
        return self._in_a_row >= _IN_A_ROW

    def told(self, items: str, last: Failed) -> str:
        """How it ended, for an error: `10 answers in a row (the last: …)`."""
        return f"{_IN_A_ROW} {items} in a row (the last: {last.reason}{'; ' + last.detail if last.detail else ''})"


def ask_all(
    ask: Callable[[_Item], _Given],
    items: Iterable[_Item],
    stop: threading.Event,
    *,
    at_once: int,
    grace: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[list[Answer[_Item, _Given]], None, None]:
    """What `ask` gives for each item, in lists as it comes, in any order; items are taken when their turn is near.

    at_once: threads that ask. stop: the endpoint's, set as soon as one of them raises (which is raised here, when
    whatever arrived has been given), `should_stop` says so, or the iteration ends early. What is under way then has
    `grace` seconds to arrive (None: all it needs), and is dropped.
    """
    askers = _Askers(ask, items, stop, at_once)
    ending = _Ending(grace)
    try:
        while askers.running and not ending.over:
            if stop.is_set() or should_stop():
                stop.set()
                ending.begin()
            if answers := askers.arrived():
                yield answers
        if askers.raised is not None:
            raise askers.raised
    finally:
        if askers.running:
            stop.set()
        ending.begin()
        askers.join(ending)


class _Askers(Generic[_Item, _Given]):
    """Threads that ask; `running` and `raised` are as `arrived` saw them last."""

    def __init__(
        self, ask: Callable[[_Item], _Given], items: Iterable[_Item], stop: threading.Event, at_once: int
    ) -> None:
        self.running = at_once
        self.raised: BaseException | None = None
        self._ask, self._stop = ask, stop
        self._source, self._one_at_a_time = iter(items), threading.Lock()
        self._arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads = [threading.Thread(None, self._work, f"asking {n}", daemon=True) for n in range(at_once)]
        for thread in self._threads:  # daemons: one that is dropped does not hold up the exit
            thread.start()

    def arrived(self) -> list[Answer[_Item, _Given]]:
        """All answers since the last call; none when a moment passes without."""
        answers = []
        for each in _all_of(self._arrived):
            if each is _END:
                self.running -= 1
            elif isinstance(each, BaseException):
                self.raised = self.raised or each
            else:
                answers.append(each)
        return answers

    def join(self, ending: _Ending) -> None:
        for thread in self._threads:
            thread.join(ending.left)

    def _work(self) -> None:
        try:
            while not self._stop.is_set() and (item := self._next()) is not _END:
                self._arrived.put(Answer(item, self._ask(item)))
        except Stopped:
            pass  # whoever said so knows why
        except BaseException as error:  # handed over, and raised there
            self._stop.set()
            self._arrived.put(error)
        finally:
            self._arrived.put(_END)

    def _next(self) -> Any:
        with self._one_at_a_time:
            return next(self._source, _END)


class _Ending:
    """The time that is left to what is under way, from `begin` on."""

    def __init__(self, grace: float | None) -> None:
        self._grace, self._until = grace, None if grace is None else float("inf")

    def begin(self) -> None:
        if self._grace is not None and self._until == float("inf"):
            self._until = time.monotonic() + self._grace

    @property
    def left(self) -> float | None:
        """Seconds; None: no limit."""
        return None if self._until is None else max(self._until - time.monotonic(), 0.0)

    @property
    def over(self) -> bool:
        return self.left == 0.0


def _all_of(arrived: queue.SimpleQueue[Any]) -> list[Any]:
    """All that has arrived; nothing after a moment without."""
    found: list[Any] = []
    try:
        found.append(arrived.get(timeout=_GLANCE))
        while True:
            found.append(arrived.get_nowait())
    except queue.Empty:
        return found
