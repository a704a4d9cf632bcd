"""Send many requests to one endpoint, several at once, until all are answered, one fails for good, or the run stops."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from halp_probe.completion import NoReply
from halp_probe.endpoint import StopAsking

_IN_A_ROW = 10  # failures one after the other before a run ends
_GLANCE = 0.1  # seconds between two checks of whether to stop
_END: Any = object()

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Answer(Generic[_Item, _Result]):
    """Result of asking about one item."""

    item: _Item
    result: _Result


class Patience:
    """Count of failures in a row, whatever their kind, to end a run that fails at everything.

    A failure that cannot pass does not count for an item that failed in an earlier run too: a run that is started again
    goes on behind it.
    """

    def __init__(self) -> None:
        self.replies = 0
        self._in_a_row = 0

    def note_reply(self) -> None:
        """Count a reply, which ends a series of failures."""
        self._in_a_row, self.replies = 0, self.replies + 1

    def ends_with(self, failed: NoReply, *, failed_before: bool) -> bool:
        """Count a failure, and return whether it is one too many."""
        self._in_a_row += failed.passing or not failed_before
        return self._in_a_row >= _IN_A_ROW

    def describe(self, items: str, last: NoReply) -> str:
        """Describe the end for an error message: `10 answers in a row (the last: …)`."""
        return f"{_IN_A_ROW} {items} in a row (the last: {last.reason}{'; ' + last.detail if last.detail else ''})"


def ask_all(
    ask: Callable[[_Item], _Result],
    items: Iterable[_Item],
    stop: threading.Event,
    *,
    at_once: int,
    grace: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[list[Answer[_Item, _Result]], None, None]:
    """Yield the results of `ask` for all items, in lists as they arrive, in any order; items are consumed lazily.

    at_once: number of threads. stop: the endpoint's event, set as soon as a thread raises (the error is raised here,
    after the results that had arrived), `should_stop` returns True, or the iteration ends early. Requests under way
    then have `grace` seconds to finish (None: no limit) before they are dropped.
    """
    askers = _Askers(ask, items, stop, at_once)
    ending = _Ending(grace)
    try:
        while askers.running and not ending.over:
            if stop.is_set() or should_stop():
                stop.set()
                ending.begin()
            if answers := askers.take_answers():
                yield answers
        if askers.error is not None:
            raise askers.error
    finally:
        if askers.running:
            stop.set()
        ending.begin()
        askers.join(ending)


class _Askers(Generic[_Item, _Result]):
    """Threads that ask; `running` and `error` are as of the last call of `take_answers`."""

    def __init__(
        self, ask: Callable[[_Item], _Result], items: Iterable[_Item], stop: threading.Event, at_once: int
    ) -> None:
        self.running = at_once
        self.error: BaseException | None = None
        self._ask, self._stop = ask, stop
        self._source, self._one_at_a_time = iter(items), threading.Lock()
        self._results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads = [threading.Thread(None, self._work, f"asking {n}", daemon=True) for n in range(at_once)]
        for thread in self._threads:  # daemons: a thread that is dropped does not delay the exit
            thread.start()

    def take_answers(self) -> list[Answer[_Item, _Result]]:
        """Return all answers since the last call; an empty list if none arrives within a moment."""
        answers = []
        for each in _drain(self._results):
            if each is _END:
                self.running -= 1
            elif isinstance(each, BaseException):
                self.error = self.error or each
            else:
                answers.append(each)
        return answers

    def join(self, ending: _Ending) -> None:
        """Wait for the threads, at most as long as `ending` allows."""
        for thread in self._threads:
            thread.join(ending.seconds_left)

    def _work(self) -> None:
        try:
            while not self._stop.is_set() and (item := self._next()) is not _END:
                self._results.put(Answer(item, self._ask(item)))
        except StopAsking:
            pass  # the caller set `stop` and knows why
        except BaseException as error:  # handed over to `ask_all`, which raises it
            self._stop.set()
            self._results.put(error)
        finally:
            self._results.put(_END)

    def _next(self) -> Any:
        with self._one_at_a_time:
            return next(self._source, _END)


class _Ending:
    """Time left for requests under way, counted from the call of `begin`."""

    def __init__(self, grace: float | None) -> None:
        self._grace, self._until = grace, None if grace is None else float("inf")

    def begin(self) -> None:
        """Start the countdown; later calls do nothing."""
        if self._grace is not None and self._until == float("inf"):
            self._until = time.monotonic() + self._grace

    @property
    def seconds_left(self) -> float | None:
        """Seconds left; None: no limit."""
        return None if self._until is None else max(self._until - time.monotonic(), 0.0)

    @property
    def over(self) -> bool:
        """Return whether the time is up."""
        return self.seconds_left == 0.0


def _drain(results: queue.SimpleQueue[Any]) -> list[Any]:
    """Take all results from the queue; an empty list if none arrives within a moment."""
    found: list[Any] = []
    try:
        found.append(results.get(timeout=_GLANCE))
        while True:
            found.append(results.get_nowait())
    except queue.Empty:
        return found
