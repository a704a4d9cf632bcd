"""Labels, features and weights as people hold them, and a study that can be looked at in a notebook."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from probes_fake import QUERY, VISION, labels_of, planted
from realistic_study import realistic
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import halp_probe
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.fitting.solver import solve_logistic
from halp_probe.probes.given_labels import labels_by_id

QUICK = halp_probe.Design(bootstrap=20, representations=(QUERY,))


@pytest.mark.parametrize("kind", ["float64", "Int64", "boolean", "object"])
def test_a_series_is_the_mapping_that_it_stands_for(kind):
    values = pd.Series([1.0, 0.0, np.nan, 1.0], index=["q3", "q1", "q2", "q0"]).astype(kind)
    assert labels_by_id(values) == {"q3": 1, "q1": 0, "q2": None, "q0": 1}
    assert all(each is None or type(each) is int for each in labels_by_id(values).values())
    assert labels_by_id({"a": float("nan"), "b": np.float64(1), "c": None}) == {"a": None, "b": 1, "c": None}


def test_a_series_in_any_order_gives_the_same_study():
    shards, y = planted(240, auroc=0.8)
    labels = {**labels_of(shards, y), "q7": None}
    series = pd.Series(labels, dtype=float).sample(frac=1, random_state=0)
    one, other = (halp_probe.study(shards, each, QUICK) for each in (labels, series))
    assert one.judgement.headline == other.judgement.headline
    np.testing.assert_array_equal(one.rows.y, other.rows.y)


def test_labels_that_say_no_ids_or_one_twice_are_refused():
    shards, y = planted(60, auroc=0.8)
    with pytest.raises(ProbeError, match="ndarray, which says no question ids"):
        halp_probe.study(shards, y, QUICK)
    with pytest.raises(ProbeError, match=r"1 question ids come twice .*'q1'"):
        halp_probe.study(shards, pd.Series([1, 0, 1], index=["q0", "q1", "q1"]), QUICK)
    with pytest.raises(ProbeError, match="labels for other ids"):
        halp_probe.study(shards, pd.Series(y), QUICK)
    with pytest.raises(ProbeError, match=r"label 2\.0 of 'q0' is neither"):
        halp_probe.study(shards, pd.Series(2.0, index=shards.question_ids), QUICK)


def test_balanced_weights_are_scikit_learns():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((400, 6)), (rng.random(400) < 0.1).astype(int)
    X[:, 0] += y
    train = np.stack([np.arange(400) % 4 != k for k in range(3)])
    found = solve_logistic(X, y, train, (0.01, 1.0), balanced=True)
    for r, rows in enumerate(train):
        for s, C in enumerate((0.01, 1.0)):
            reference = make_pipeline(
                StandardScaler(), LogisticRegression(C=C, class_weight="balanced", tol=1e-10, max_iter=5000)
            ).fit(X[rows], y[rows])
            np.testing.assert_allclose(found.logit[r, s], reference.decision_function(X), atol=1e-5)
    plain = solve_logistic(X, y, train, (0.01, 1.0))
    assert found.logit.mean() > plain.logit.mean() + 1  # about even odds


def test_a_balanced_study_keeps_risks_at_the_true_rate_and_says_so_in_the_card(tmp_path):
    shards, y = realistic()
    design = halp_probe.Design(bootstrap=20, representations=(QUERY,), class_weight="balanced")
    found = halp_probe.study(shards, labels_of(shards, y), design)
    assert found.risk.mean() == pytest.approx(y.mean(), abs=0.01)
    assert np.mean(1 / (1 + np.exp(-found.judgement.scores[QUERY]))) > 2 * y.mean()
    halp_probe.write_report(found, tmp_path)
    card = json.loads((tmp_path / "probes" / "selected_probe.json").read_text())
    assert card["training"]["class_weight"] == "balanced"
    for wrong, match in (
        ({"calibration": "none"}, "`calibration` none"),
        ({"probe": "ridge"}, "goes with the probe 'linear' alone"),
        ({"preset": "halp"}, "`preset` halp"),
    ):
        with pytest.raises(ProbeError, match=match):
            halp_probe.study(shards, labels_of(shards, y), halp_probe.Design(class_weight="balanced", **wrong))
    with pytest.raises(ProbeError, match="'even' is neither None nor 'balanced'"):
        halp_probe.study(shards, labels_of(shards, y), halp_probe.Design(class_weight="even"))


@pytest.mark.parametrize("names", [("mine", "other"), ("query_token_representation/layer_1", "my/layer_2")])
def test_a_study_of_own_features_alone_is_written(tmp_path, names):
    shards, y = realistic(150)
    features = {name: shards.arrays[each] for name, each in zip(names, (QUERY, VISION), strict=True)}
    design = halp_probe.Design(bootstrap=20, representations=(), group_columns=("source",))
    found = halp_probe.study(shards, labels_of(shards, y), design, features=features)
    halp_probe.write_report(found, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert (tmp_path / "heatmap.png").stat().st_size > 1000 and f"{names[1].replace('_', ' ')}</bdi>" in page
    assert set(found.layers.estimates) == set(names)


def test_a_study_looks_like_one_screen():
    shards, y = realistic()
    found = halp_probe.study(shards, labels_of(shards, y), halp_probe.Design(bootstrap=20, group_columns=("source",)))
    text = repr(found)
    lines = text.splitlines()
    assert len(lines) <= 12 and max(map(len, lines)) <= 110
    assert f"{found.judgement.headline.auroc.value:.3f}" in lines[1] and "first token entropy" in lines[2]
    assert any(line.startswith("  serious: ") for line in lines)
