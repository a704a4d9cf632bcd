"""Fixed folds: nothing that belongs together is parted, whatever the order, and other rows move nothing."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from halp_probe.catalog.folds import FOLDS, fold_of, split_hash, units

NAMES = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=3)
TIED = st.lists(NAMES, min_size=1, max_size=12)


def components(tied: list[list[str]]) -> list[int]:
    """By brute force: rows reach each other through shared names."""
    group = list(range(len(tied)))
    for _ in tied:
        for i, one in enumerate(tied):
            for j, other in enumerate(tied):
                if set(one) & set(other):
                    group[i] = group[j] = min(group[i], group[j])
    return group


@given(TIED)
def test_units_are_the_connected_components(tied):
    found, expected = units(tied), components(tied)
    for i in range(len(tied)):
        for j in range(len(tied)):
            assert (found[i] == found[j]) == (expected[i] == expected[j])


@given(TIED, st.randoms(use_true_random=False))
def test_units_do_not_depend_on_the_order(tied, random):
    order = list(range(len(tied)))
    random.shuffle(order)
    shuffled = units([tied[place] for place in order])
    assert [shuffled[order.index(place)] for place in range(len(tied))] == units(tied)


@given(TIED, st.lists(st.lists(st.sampled_from("stuvw"), min_size=1, max_size=2), max_size=5))
def test_rows_elsewhere_move_no_unit(tied, others):
    assert units([*others, *tied])[len(others) :] == units(tied)


def test_a_unit_is_called_by_what_stands_first():
    assert units([["pair 1", "picture b"], ["pair 1", "picture a"]]) == ["pair 1", "pair 1"]


def test_folds_are_those_that_the_page_describes():
    for unit in ("picture a.jpg", "pair 7", "figures VS/图/0"):
        digest = hashlib.sha256(b"pope\n" + unit.encode("utf-8")).hexdigest()
        assert fold_of("pope", unit) == int(digest, 16) % 5
    assert fold_of("pope", "picture COCO_val2014_000000310196.jpg") == 4  # on every machine, in every release


def test_folds_are_of_about_one_size():
    sizes = [0] * FOLDS
    for number in range(1000):
        sizes[fold_of("pope", f"picture {number}.jpg")] += 1
    assert min(sizes) > 150 and max(sizes) < 250


def test_the_split_is_one_hash_whatever_the_order():
    expected = hashlib.sha256(b"a\t1\nb\t0\n").hexdigest()
    assert split_hash(["b", "a"], ["0", "1"]) == split_hash(["a", "b"], ["1", "0"]) == expected
    assert split_hash(["a", "b"], ["1", "1"]) != expected
