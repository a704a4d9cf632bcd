"""Curves against scikit-learn and loops; thinning that does not bend them; bands from whole images."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from halp_probe.bootstrap import Draws
from halp_probe.probes.judging.curves import precision_recall, reliability, risk_coverage, roc, thin
from halp_probe.probes.judging.measures import MEASURES
from halp_probe.probes.judging.rows import Rows


def pooled(y, images):
    return Rows(y=y, fold=np.zeros(len(y)), images=images)


def rows(n=3000, levels=None):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    score = 1 / (1 + np.exp(-rng.standard_normal(n) - y))
    return y, score if levels is None else np.round(score * levels) / levels, np.arange(n) // 3


@pytest.mark.parametrize("levels", [None, 10])
def test_roc_passes_scikit_learns_points_and_keeps_its_area(levels):
    y, score, _ = rows(levels=levels)
    curve = roc(score, y)
    fpr, tpr, _ = roc_curve(y, score, drop_intermediate=False)
    assert len(curve.fpr) <= 200
    assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)
    assert {*zip(curve.fpr, curve.tpr, strict=True)} <= {*zip(fpr, tpr, strict=True)}
    assert curve.auroc == pytest.approx(roc_auc_score(y, score))
    assert auc(curve.fpr, curve.tpr) == pytest.approx(curve.auroc, abs=1e-3 if levels is None else 1e-12)


@pytest.mark.parametrize("levels", [None, 10])
def test_precision_recall_passes_scikit_learns_points(levels):
    y, score, _ = rows(levels=levels)
    curve = precision_recall(score, y)
    precision, recall, _ = precision_recall_curve(y, score)
    assert len(curve.recall) <= 200
    assert {*zip(curve.recall, curve.precision, strict=True)} <= {*zip(recall, precision, strict=True)}
    assert (np.diff(curve.recall) >= 0).all()
    assert (curve.recall[-1], curve.precision[-1]) == (1, y.mean())
    assert curve.average_precision == pytest.approx(average_precision_score(y, score))
    assert curve.prevalence == y.mean()


def test_thinning_keeps_corners_and_drops_straight_stretches():
    x = np.concatenate([np.zeros(50), np.linspace(0, 1, 100)])
    y = np.concatenate([np.linspace(0, 0.7, 50), np.linspace(0.7, 1, 100)])
    kept = thin(x, y, 200)
    assert [(x[i], y[i]) for i in kept] == [(0, 0), (0, 0.7), (1, 1)]


def test_thinning_stays_close_to_the_curve():
    x = np.linspace(0, 1, 5000)
    for y, error in ((np.sqrt(x), 1e-4), (np.sin(20 * x), 5e-3)):
        kept = thin(x, y, 200)
        assert len(kept) == 200
        assert np.abs(np.interp(x, x[kept], y[kept]) - y).max() < error


def test_risk_coverage_is_the_error_of_the_least_risky_rows():
    y, score, images = rows(n=600)
    curve = risk_coverage(score, pooled(y, images), Draws(count=100, seed=0))
    order = np.argsort(score)
    for share, error, oracle in zip(curve.coverage, curve.error, curve.oracle, strict=True):
        k = round(share * 600)
        assert error == pytest.approx(y[order[:k]].mean())
        assert oracle == pytest.approx(np.sort(y)[:k].mean())
    assert len(curve.coverage) == 50
    assert ((curve.low <= curve.error) & (curve.error <= curve.high)).all()
    assert curve.aurc == pytest.approx(MEASURES["aurc"](score, y, np.ones((1, 600)))[0])


def test_risk_coverage_band_knows_that_rows_of_an_image_are_alike():
    """The same 100 rows once and four times on the same images: nothing is learnt from repeating them."""
    y, score, _ = rows(n=100)
    draws, again = Draws(count=400, seed=0), np.repeat(np.arange(100), 4)
    one = risk_coverage(score, pooled(y, np.arange(100)), draws)
    four = risk_coverage(score[again], pooled(y[again], again), draws)
    np.testing.assert_allclose(four.error, one.error)
    np.testing.assert_allclose(four.high - four.low, one.high - one.low, rtol=1e-9)


def test_reliability_bins_have_equal_mass_and_make_up_the_ece():
    y, score, images = rows(n=1000)
    curve = reliability(score, pooled(y, images), Draws(count=100, seed=0))
    np.testing.assert_allclose(curve.count, 100)
    slices = np.argsort(score).reshape(10, 100)
    np.testing.assert_allclose(curve.risk, score[slices].mean(axis=1))
    np.testing.assert_allclose(curve.observed, y[slices].mean(axis=1))
    assert np.average(np.abs(curve.risk - curve.observed), weights=curve.count) == pytest.approx(curve.ece)
    assert ((curve.low <= curve.observed) & (curve.observed <= curve.high)).all()


@pytest.mark.parametrize("levels", [3, 7])
def test_reliability_shares_ties_out_and_still_makes_up_the_ece(levels):
    y, score, images = rows(n=250, levels=levels)
    curve = reliability(score, pooled(y, images), Draws(count=20, seed=0))
    np.testing.assert_allclose(curve.count, 25)
    assert curve.observed.mean() == pytest.approx(y.mean())
    assert np.abs(curve.risk - curve.observed).mean() == pytest.approx(curve.ece)


def test_reliability_interval_holds_the_true_share_of_a_calibrated_risk():
    held = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        risk = rng.random(400)[np.arange(800) // 2]
        found = pooled((rng.random(800) < risk).astype(int), np.arange(800) // 2)
        curve = reliability(risk, found, Draws(count=150, seed=seed))
        held += list((curve.low <= curve.risk) & (curve.risk <= curve.high))
    assert 0.92 <= np.mean(held) <= 0.98


def test_curves_refuse_what_they_cannot_draw():
    with pytest.raises(ValueError, match="all 3 rows have label 1"):
        roc(np.arange(3.0), np.ones(3, dtype=int))
    with pytest.raises(ValueError, match="all 3 rows have label 0"):
        precision_recall(np.arange(3.0), np.zeros(3, dtype=int))
    with pytest.raises(ValueError, match="calibrate"):
        reliability(np.array([0.2, 1.2]), pooled(np.array([0, 1]), np.arange(2)), Draws(count=5, seed=0))
