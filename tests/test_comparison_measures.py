"""The measures of movement against naive oracles: loops over rows, whole kernel matrices, simulation."""

from __future__ import annotations

import numpy as np
import pytest

from halp_probe.bootstrap import Draws
from halp_probe.comparison import cka, measures
from halp_probe.comparison.cka import hsic, linear_cka, one_row_an_image
from halp_probe.comparison.measures import mean_over_images, row_distances, share_over_images


def vectors(n: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(loc=3.0, size=(n, width)).astype(np.float32)


def song(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased HSIC as Song and others (2012, equation 5) print it, on whole kernel matrices, rows as they are."""
    n = len(a)
    k, l_ = (each.astype(np.float64) @ each.astype(np.float64).T for each in (a, b))
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l_, 0)
    one = np.ones(n)
    cross = one @ k @ one * (one @ l_ @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ l_) + cross - 2 / (n - 2) * (one @ k @ l_ @ one)) / (n * (n - 3))


def test_row_distances_are_those_of_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "_VALUES_AT_ONCE", 30)  # four rows a block
    a, b = vectors(11, 7), vectors(11, 7, seed=1)
    b[3] = a[3]
    found = row_distances(a, b)
    for row in range(11):
        x, y = a[row].astype(np.float64), b[row].astype(np.float64)
        assert found.relative_l2[row] == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x), rel=1e-12)
        assert found.cosine[row] == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), rel=1e-12)
    assert (
        found.relative_l2[3] == 0 and found.cosine[3] == 1 and found.identical.tolist() == [r == 3 for r in range(11)]
    )


def test_the_same_vectors_did_not_move_at_all() -> None:
    a = vectors(200, 33)
    found = row_distances(a, a.copy())
    assert (found.relative_l2 == 0).all() and (found.cosine == 1).all() and found.identical.all()


def test_one_last_bit_is_a_movement() -> None:
    a = vectors(1, 50)
    b = a.copy()
    b[0, 7] = np.nextafter(b[0, 7], np.float32(np.inf))
    found = row_distances(a, b)
    assert not found.identical[0] and 0 < found.relative_l2[0] < 1e-6 and found.cosine[0] <= 1


def test_rows_of_zero_length() -> None:
    zero, one = np.zeros(3, dtype=np.float32), np.ones(3, dtype=np.float32)
    found = row_distances(np.stack([zero, zero, one]), np.stack([zero, one, zero]))
    np.testing.assert_array_equal(found.relative_l2, [0, np.nan, 1])
    np.testing.assert_array_equal(found.cosine, [np.nan, np.nan, np.nan])
    assert found.identical.tolist() == [True, False, False]


def test_large_values_do_not_overflow() -> None:
    a = np.full((2, 4), 3e38, dtype=np.float32)
    found = row_distances(a, -a)
    assert found.relative_l2 == pytest.approx([2, 2]) and found.cosine == pytest.approx([-1, -1])


@pytest.mark.parametrize("shape", [(30, 5, 8), (9, 40, 40), (12, 3, 50), (50, 20, 20)])
@pytest.mark.parametrize("tile", [64, 4_000_000])
def test_hsic_is_songs(shape: tuple[int, int, int], tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cka, "_TILE_VALUES", tile)
    n, width_a, width_b = shape
    a, b = vectors(n, width_a), vectors(n, width_b, seed=1)
    b[:, 0] += a[:, 0]
    assert hsic(a, b) == pytest.approx((song(a, b), song(a, a), song(b, b)), rel=1e-9)


def test_cka_of_single_rows_is_songs_ratio() -> None:
    a, b = vectors(20, 6), vectors(20, 9, seed=1)
    b[:, :6] += a
    expected = song(a, b) / np.sqrt(song(a, a) * song(b, b))
    assert linear_cka(a, b, np.arange(20)).value == pytest.approx(expected, rel=1e-9)


def test_cka_knows_no_rotation_shift_or_scale() -> None:
    a = vectors(60, 10)
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(10, 10)))[0]
    assert linear_cka(a, 7 * a @ turn + 3, np.arange(60)).value == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("tile", [50, 4_000_000])
def test_cka_of_the_same_vectors_is_exactly_1(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cka, "_TILE_VALUES", tile)
    for n, width in ((60, 10), (60, 47), (10, 33)):
        for seed in range(5):
            a = vectors(n, width, seed)
            assert linear_cka(a, a.copy(), np.arange(n)).value == 1


def test_cka_of_unrelated_rows_is_0_however_wide_and_however_often_an_image_is_asked_about() -> None:
    """The biased estimate, and the unbiased one that takes all rows for independent, are near 1 here."""
    images = np.repeat(np.arange(40), 6)
    found, naive = [], []
    for seed in range(30):
        a, b = vectors(40, 400, seed=2 * seed)[images], vectors(40, 400, seed=2 * seed + 1)[images]
        found.append(linear_cka(a, b, images).value)
        naive.append(song(a, b) / np.sqrt(song(a, a) * song(b, b)))
    assert abs(np.mean(found)) < 0.02 and np.mean(naive) > 0.8


def test_choices_take_one_row_of_each_image_and_all_rows_in_turn() -> None:
    images = np.array(list("aaabbcaab"))
    choices = one_row_an_image(images, seed=0)
    assert len(choices) == 5 and {int(row) for rows in choices for row in rows} == set(range(9))
    for rows in choices:
        assert sorted(images[rows]) == ["a", "b", "c"]


def test_cka_averages_over_the_choices() -> None:
    images = np.repeat(np.arange(15), 3)
    a, b = vectors(45, 4), vectors(45, 4, seed=1)
    b += a
    choices = one_row_an_image(images, seed=3)
    means = [np.mean([song(x[rows], y[rows]) for rows in choices]) for x, y in ((a, b), (a, a), (b, b))]
    assert linear_cka(a, b, images, seed=3).value == pytest.approx(means[0] / np.sqrt(means[1] * means[2]), rel=1e-9)


def test_cka_of_states_of_the_image_alone_is_that_of_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.repeat(np.arange(15), 3)
    a, b = vectors(15, 4), vectors(15, 4) + vectors(15, 4, seed=1)
    calls = []
    monkeypatch.setattr(cka, "hsic", lambda x, y: calls.append(1) or hsic(x, y))
    assert linear_cka(a[images], b[images], images).value == linear_cka(a, b, np.arange(15)).value
    assert len(calls) == 2
    b = b[images]
    b[1] += 1
    linear_cka(a[images], b, images)
    assert len(calls) == 5


def test_cka_says_why_it_is_unknown() -> None:
    a = vectors(6, 4)
    assert np.isnan(linear_cka(a, a, np.array([0, 0, 0, 1, 1, 2])).value)
    assert "needs 4 images, here are 3" in linear_cka(a, a, np.array([0, 0, 0, 1, 1, 2])).reason
    flat = np.full((6, 4), 0.1, dtype=np.float32)
    assert "all rows of B are the same vector" in linear_cka(a, flat, np.arange(6)).reason
    assert np.isnan(linear_cka(a, flat, np.arange(6)).value)


def test_intervals_of_means_hold_the_truth() -> None:
    """Rows of an image move together; the true mean is 1."""
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(25), 4)
    held = 0
    for _ in range(300):
        values = 1 + rng.normal(size=25)[images] + 0.3 * rng.normal(size=100)
        found = mean_over_images(values, images, Draws(count=200, seed=0), low=-np.inf)
        held += found.low <= 1 <= found.high
    assert 0.92 <= held / 300 <= 0.98


def test_means_leave_unknown_rows_out_and_keep_bounds() -> None:
    images = np.arange(5)
    found = mean_over_images(np.array([0.0, 0.0, 0.0, 4.0, np.nan]), images, low=0)
    assert found.value == 1 and found.low == 0 and found.high > 1
    assert np.isnan(mean_over_images(np.full(5, np.nan), images, low=0).value)
    still = mean_over_images(np.full(5, 0.1), images, low=0)
    assert (still.value, still.low, still.high) == (0.1, 0.1, 0.1)
    assert "one image" in mean_over_images(np.array([1.0, 2.0]), np.zeros(2), low=0).note


def test_no_change_in_few_images_is_no_proof() -> None:
    found = share_over_images(np.zeros(10, dtype=bool), np.arange(10))
    assert found.value == 0 and found.low == 0 and 0.2 < found.high < 0.4  # 1 - .025 ** (1 / 10)
