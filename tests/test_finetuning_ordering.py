"""Samples of like length share batches, and none moves far."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from halp_probe.finetuning.ordering import by_length

WINDOW = 64


@given(st.lists(st.integers(1, 500), max_size=700), st.integers(1, 7), st.integers(0, 3))
def test_every_sample_comes_once_within_its_window(lengths, batch, seed):
    order = by_length(lengths, batch, seed)
    assert sorted(order) == list(range(len(lengths)))
    width = WINDOW * batch
    assert all(place // width == at // width for at, place in enumerate(order))
    assert order == by_length(lengths, batch, seed)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=300), st.integers(1, 7))
def test_batches_pad_as_little_as_sorted_ones(lengths, batch):
    """Oracle: within a window no partition into batches pads less than that of the sorted lengths."""
    lengths = lengths[: WINDOW * batch]
    taken = [lengths[place] for place in by_length(lengths, batch, 0)]
    assert padded(taken, batch) == padded(sorted(lengths), batch)


def padded(lengths: list[int], batch: int) -> int:
    return sum(max(part) * len(part) for part in (lengths[k : k + batch] for k in range(0, len(lengths), batch)))


def test_the_seed_decides_the_order_of_batches():
    lengths = list(range(200))
    assert by_length(lengths, 4, 0) != by_length(lengths, 4, 1)
    assert by_length(lengths, 4, 0) != sorted(range(200), key=lambda place: lengths[place])
