"""Two bounded helper threads of a loop: one prepares items in advance, one makes calls in the background, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_END: Any = object()


def prefetch(items: Iterator[_Item], depth: int = 1) -> Generator[_Item, None, None]:
    """Yield the same items, made in a separate thread, up to `depth` of them in advance.

    What `items` raises is raised here. The thread ends with the iteration.
    """
    with ThreadPoolExecutor(1, "prefetch") as thread:
        waiting = deque(thread.submit(next, items, _END) for _ in range(depth))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(thread.submit(next, items, _END))
            yield item


class BackgroundThread:
    """A thread that makes calls in order; if `depth` of them are waiting, `submit` waits.

    What a call raises is raised by a later `submit` or at the end of the context, and later calls are not made.
    """

    def __init__(self, depth: int = 2) -> None:
        self._thread = ThreadPoolExecutor(1, "background")
        self._waiting: deque[Future[None]] = deque()
        self._depth, self._failed = depth, False

    def __enter__(self) -> BackgroundThread:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._thread.shutdown()
        if kind is None:
            while self._waiting:
                self._waiting.popleft().result()

    def submit(self, call: Callable[..., None], *arguments: Any) -> None:
        """Queue a call; wait first while `depth` calls are queued."""
        while len(self._waiting) >= self._depth:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._run, call, arguments))

    def _run(self, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self._failed:
            return
        self._failed = True
        call(*arguments)
        self._failed = False
