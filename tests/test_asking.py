"""Asking several at once: each item once, what arrived before the end is given, what is under way is waited for."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halp_probe.asking import ask_all
from halp_probe.endpoint import StopAsking


def slowly(count: int, taken: list[int] | None = None) -> Iterator[int]:
    """A source that two threads cannot be in."""
    for n in range(count):
        time.sleep(0.001)
        if taken is not None:
            taken.append(n)
        yield n


def all_of(ask: Callable[[int], Any], items: Iterator[int], **how: Any) -> list[tuple[int, Any]]:
    asked = ask_all(ask, items, threading.Event(), **how)
    return [(answer.item, answer.result) for answers in asked for answer in answers]


@given(st.integers(0, 20), st.integers(1, 6))
def test_every_item_is_asked_about_once_and_keeps_its_answer(count: int, at_once: int) -> None:
    found = all_of(lambda n: n * n, slowly(count), at_once=at_once)
    assert Counter(found) == Counter((n, n * n) for n in range(count))


def test_items_are_taken_when_their_turn_is_near() -> None:
    taken: list[int] = []
    gate = threading.Semaphore(5)
    asked = ask_all(lambda n: gate.acquire(timeout=30), slowly(100, taken), threading.Event(), at_once=3)
    found = []
    with closing(asked):
        for answers in asked:
            found.extend(answers)
            if len(found) == 5:
                assert len(taken) <= 5 + 3
                gate.release(100)
    assert len(found) == 100


def test_what_arrived_is_given_before_what_was_raised() -> None:
    """Also from the thread that ends last: the one that raises has not the last word."""
    raised = threading.Event()

    def ask(n: int) -> int:
        if n == 1:
            raised.set()
            raise KeyError("no")
        assert raised.wait(30)
        return n

    found: list[int] = []
    stop = threading.Event()
    with pytest.raises(KeyError, match="no"):
        for answers in ask_all(ask, slowly(50), stop, at_once=3):
            found.extend(answer.item for answer in answers)
    assert {0} <= set(found) and len(found) <= 3 and stop.is_set()


@pytest.mark.parametrize("closed", [True, False])
def test_what_is_under_way_ends_first(closed: bool) -> None:
    """However the asking ends: the caller may keep what it is given in the thread that asks."""
    under_way, ended = threading.Semaphore(0), []

    def ask(n: int) -> None:
        if n:
            under_way.release()
            time.sleep(0.3)
            ended.append(n)

    stopping = threading.Event()
    asked = ask_all(ask, slowly(50), threading.Event(), at_once=3, should_stop=stopping.is_set)
    with closing(asked):
        assert [answer.item for answer in next(asked)] == [0]
        for _ in range(3):
            assert under_way.acquire(timeout=30)
        if not closed:
            stopping.set()
            assert sorted(answer.item for answers in asked for answer in answers) == [1, 2, 3]
    assert sorted(ended) == [1, 2, 3]


def test_grace_is_all_that_a_stopped_run_gives() -> None:
    release, stopping = threading.Event(), threading.Event()

    def ask(n: int) -> int:
        if n == 0:
            assert release.wait(60)
        stopping.set()
        return n

    asked = ask_all(ask, slowly(50), threading.Event(), at_once=2, grace=0.2, should_stop=stopping.is_set)
    assert 0 not in {answer.item for answers in asked for answer in answers}
    assert not release.is_set(), "it ended before the item that hangs"
    release.set()


def test_an_endpoint_that_was_stopped_ends_it_without_a_word() -> None:
    def ask(n: int) -> int:
        raise StopAsking

    assert all_of(ask, slowly(9), at_once=2) == []
