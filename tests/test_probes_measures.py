"""Every measure against scikit-learn or a loop over rows, with ties and with rows repeated for weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from halp_probe.probes.judging.measures import MEASURES, calibration_error, error_at_coverage, fpr_at_tpr, prr
from halp_probe.probes.judging.tally import tally

ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 4)), min_size=2, max_size=30)


def columns(rows):
    y, score, weight = (np.array(column) for column in zip(*rows, strict=True))
    return y, score / 6, weight


def repeated(y, score, weight):
    rows = np.repeat(np.arange(len(y)), weight)
    return y[rows], score[rows]


def measured(name, y, score, weight):
    """Under the weights, beside a second draw that must not leak into the first."""
    return MEASURES[name](score, y, np.stack([weight, np.ones_like(weight)]))[0]


def orders(y, score, rng, count):
    """Labels from the least risky row on, ties in random order."""
    for _ in range(count):
        yield y[np.lexsort((rng.random(len(y)), score))]


@given(ROWS)
@settings(max_examples=200, deadline=None)
def test_ranks_and_brier_are_scikit_learns_on_repeated_rows(rows):
    y, score, weight = columns(rows)
    y_all, score_all = repeated(y, score, weight)
    assume(len(np.unique(y_all)) == 2)
    assert measured("auroc", y, score, weight) == pytest.approx(roc_auc_score(y_all, score_all))
    assert measured("auprc", y, score, weight) == pytest.approx(average_precision_score(y_all, score_all))
    assert measured("auprc", y, score, weight) == pytest.approx(average_precision_score(y, score, sample_weight=weight))
    assert measured("brier", y, score, weight) == pytest.approx(brier_score_loss(y_all, score_all))
    assert measured("prevalence", y, score, weight) == pytest.approx(y_all.mean())


@given(ROWS, st.sampled_from([0.5, 0.8, 0.95, 1.0]))
@settings(max_examples=200, deadline=None)
def test_fpr_is_the_smallest_on_scikit_learns_roc_curve(rows, tpr):
    y, score, weight = columns(rows)
    y_all, score_all = repeated(y, score, weight)
    assume(len(np.unique(y_all)) == 2)
    fprs, tprs, _ = roc_curve(y_all, score_all, drop_intermediate=False)
    assert fpr_at_tpr(tally(score, y, weight[None]), tpr)[0] == pytest.approx(fprs[tprs >= tpr].min())


def test_95_percent_of_20_is_19():
    y = np.repeat([1, 0, 1], [19, 10, 1])
    assert measured("fpr_95", y, -np.arange(30.0), np.ones(30, dtype=int)) == 0


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_risk_coverage_numbers_are_means_over_orders_of_tied_rows(rows):
    """By the definition, over every prefix of the rows; exact where no scores tie, else within the orders' noise."""
    y, score, weight = columns(rows)
    y_all, score_all = repeated(y, score, weight)
    assume(len(y_all) >= 2)
    ordered = np.array(list(orders(y_all, score_all, np.random.default_rng(0), 400)))  # [orders, rows]
    n = len(y_all)
    errors = np.cumsum(ordered, axis=1) / np.arange(1, n + 1)
    assert measured("aurc", y, score, weight) == pytest.approx(errors.mean(), abs=0.1)
    answered = int(np.ceil(round(0.8 * n, 6)))
    assert measured("error_80", y, score, weight) == pytest.approx(errors[:, answered - 1].mean(), abs=0.1)


@pytest.mark.parametrize("n", [1, 4, 5, 7, 33, 35, 60])
def test_risk_coverage_numbers_without_ties_are_exact(n):
    rng = np.random.default_rng(n)
    y, score, whole = rng.integers(0, 2, n), rng.permutation(n).astype(float), np.ones(n, dtype=int)
    errors = [y[np.argsort(score)][:k].mean() for k in range(1, n + 1)]
    assert measured("aurc", y, score, whole) == pytest.approx(np.mean(errors))
    assert measured("error_80", y, score, whole) == pytest.approx(errors[-(-4 * n // 5) - 1])


def test_ties_of_two_count_as_the_mean_of_both_orders():
    y, score, whole = np.array([0, 1]), np.zeros(2), np.ones(2, dtype=int)
    assert measured("aurc", y, score, whole) == pytest.approx((0 + 1 / 2 + 1 + 1 / 2) / 4)
    assert error_at_coverage(tally(score, y, whole[None]), 0.5)[0] == pytest.approx(0.5)


def rejection_area(quality, uncertainty, max_rejection):
    """The mean accuracy of the most certain rows, as one more of them is rejected, up to `max_rejection`."""
    n = len(quality)
    kept = quality[np.argsort(uncertainty, kind="stable")]
    return np.mean([kept[: n - k].mean() for k in range(int(max_rejection * n))])


@pytest.mark.parametrize("max_rejection", [1.0, 0.5])
@pytest.mark.parametrize("n", [6, 51, 200])
def test_prr_is_the_area_between_random_and_oracle(n, max_rejection):
    rng = np.random.default_rng(n)
    y = np.append([0, 1], rng.integers(0, 2, n - 2))
    score = rng.permutation(n) + 0.3 * n * y + 0.01 * y  # no ties
    found = prr(tally(score, y, np.ones((1, n))), max_rejection)[0]
    area, oracle = (rejection_area(1 - y, s, max_rejection) for s in (score, y))
    shuffles = [rejection_area(1 - y, rng.random(n), max_rejection) for _ in range(2000)]
    assert np.mean(shuffles) == pytest.approx(1 - y.mean(), abs=0.01)  # which is why the exact one may stand for it
    assert found == pytest.approx((area - (1 - y.mean())) / (oracle - (1 - y.mean())))
    name = "prr" if max_rejection == 1 else "prr_50"
    assert measured(name, y, score, np.ones(n, dtype=int)) == pytest.approx(found)


def test_prr_of_oracle_and_of_no_information():
    y, whole = np.array([0, 1, 0, 1, 1]), np.ones(5, dtype=int)
    for name in ("prr", "prr_50"):
        assert measured(name, y, y.astype(float), whole) == pytest.approx(1)
        assert measured(name, y, np.zeros(5), whole) == pytest.approx(0, abs=1e-12)


@given(ROWS, st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_calibration_error_is_that_of_bins_of_equal_mass(rows, bins):
    """Each row cut into `bins` equal slices, so that bins have whole numbers of slices; ties spread evenly."""
    y, risk, weight = columns(rows)
    y_all, risk_all = repeated(y, risk, weight)
    n = len(y_all)
    assume(n > 0)
    order = np.argsort(risk_all, kind="stable")
    mean = {r: y_all[risk_all == r].mean() for r in np.unique(risk_all)}  # of tied rows each has a share
    slices = np.repeat(np.array([[r, mean[r]] for r in risk_all[order]]), bins, axis=0).reshape(bins, n, 2)
    expected = np.mean([abs(each[:, 0].mean() - each[:, 1].mean()) for each in slices])
    found = calibration_error(tally(risk, y, np.stack([weight, weight + 1])), bins)[0]
    assert found == pytest.approx(expected, abs=1e-12)


def test_calibration_error_by_hand():
    y, risk = np.repeat([0, 1, 1, 0], [5, 5, 8, 2]), np.repeat([0.2, 0.9], 10)
    assert calibration_error(tally(risk, y, np.ones((1, 20))), 2)[0] == pytest.approx((0.3 + 0.1) / 2)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_nan_where_there_is_nothing_to_tell_apart(label):
    y, whole = np.full(6, label), np.ones(6, dtype=int)
    score = np.arange(6) / 6
    undefined = {name for name in MEASURES if np.isnan(measured(name, y, score, whole))}
    assert undefined == {"auroc", "fpr_95", "prr", "prr_50"} | ({"auprc"} if label == 0 else set())
    assert measured("aurc", y, score, whole) == label


@pytest.mark.parametrize("name", ["aurc", "prr"])
def test_fractional_weights_are_refused_where_rows_are_counted(name):
    with pytest.raises(ValueError, match="whole numbers"):
        MEASURES[name](np.array([0.1, 0.2]), np.array([0, 1]), np.full((1, 2), 0.5))


@pytest.mark.parametrize("name", list(MEASURES))
def test_registry_says_which_way_is_better_and_what_is_bounded(name):
    """The labels themselves as risk against their opposite; `bounded` decides how the interval is made."""
    measure, y, whole = MEASURES[name], np.array([0, 0, 1, 0, 1]), np.ones(5, dtype=int)
    best, worst = (measured(name, y, risk.astype(float), whole) for risk in (y, 1 - y))
    assert {True: best > worst, False: best < worst, None: best == worst}[measure.higher_is_better]
    assert measure.name == name
    assert not measure.bounded or 0 <= min(best, worst) <= max(best, worst) <= 1
