"""The curve, other folds and left-out groups are those of probes fitted by hand, and the forecast comes true."""

from __future__ import annotations

import numpy as np
import pytest
from probes_fake import QUERY, FakeShards, labels_of, planted
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from halp_probe.probes.design import Design
from halp_probe.probes.stability import forecast
from halp_probe.probes.study import Study, study

pytestmark = pytest.mark.slow


def wide(images: int, seed: int = 0, width: int = 120) -> tuple[FakeShards, np.ndarray]:
    """Three questions an image; a signal spread over many numbers, so that it takes images to learn."""
    rng = np.random.default_rng(seed)
    n = 3 * images
    X = rng.standard_normal((n, width))
    y = (X @ np.full(width, 0.2) + rng.logistic(size=n) > 0).astype(int)
    names = [str(row // 3) for row in range(n)]
    shards = FakeShards(
        question_ids=tuple(f"q{row}" for row in range(n)),
        arrays={QUERY: X.astype(np.float32)},
        texts={
            "image_id": names,
            "image_sha256": [f"{name:0>64}" for name in names],
            "source": [f"source {int(name) % 4}" for name in names],
        },
    )
    return shards, y


def studied(images: int, **design: object) -> Study:
    shards, y = wide(images)
    return study(shards, labels_of(shards, y), Design(**{"bootstrap": 150, "stability": True, **design}))


@pytest.fixture(scope="module")
def found() -> Study:
    return studied(400, group_columns=("source",))


def test_the_curve_rises_to_the_number_of_the_whole_study(found: Study):
    curve = found.stability.curve
    assert [point.images for point in curve.points] == [50, 100, 200, 400]
    values = [point.auroc.value for point in curve.points]
    assert values == sorted(values) and values[-1] - values[0] > 0.1
    assert values[-1] == found.judgement.result(QUERY).auroc.value


def test_the_forecast_is_what_twice_the_images_give(found: Study):
    """The truth is a study of other images, twice as many: its number, which has an error of its own."""
    expected = found.stability.curve.forecast
    shards, y = wide(800, seed=1)
    truth = study(shards, labels_of(shards, y), Design(bootstrap=150)).judgement.result(QUERY).auroc
    assert expected.images == 800
    assert expected.auroc.low <= truth.value <= expected.auroc.high
    assert expected.auroc.value == pytest.approx(truth.value, abs=0.02)
    assert expected.auroc.value > found.stability.curve.points[-1].auroc.value


def test_a_forecast_is_the_line_in_one_over_the_root(found: Study):
    class Point:
        def __init__(self, value: float) -> None:
            self.value, self.draws, self.clusters, self.spread = value, np.full(5, value), 90, 1.0

    measured = [(count, Point(0.9 - 2 / np.sqrt(count))) for count in (100, 200, 400)]
    assert forecast(measured, 800).auroc.value == pytest.approx(0.9 - 2 / np.sqrt(800))


def test_the_images_that_a_precision_needs_follow_from_the_interval(found: Study):
    auroc = found.judgement.result(QUERY).auroc
    reach = (auroc.high - auroc.low) / 2
    assert found.stability.curve.images_for_precision == round(400 * (reach / 0.02) ** 2)


def test_a_source_is_judged_by_probes_of_the_others_alone(found: Study):
    (left_out,) = found.stability.left_out
    X, y = wide(400)[0].arrays[QUERY], found.rows.y
    source = np.array(found.rows.groups["source"])
    assert list(left_out.by_group) == sorted(set(source))
    for name, estimate in left_out.by_group.items():
        train, test = source != name, source == name
        reached = []
        for C in found.design.strengths:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=5000)).fit(X[train], y[train])
            reached.append(roc_auc_score(y[test], model.decision_function(X[test])))
        assert min(np.abs(np.array(reached) - estimate.value)) < 1e-3
    assert left_out.mean.value == pytest.approx(np.mean([each.value for each in left_out.by_group.values()]))


def test_images_in_several_sources_leave_none_out():
    shards, y = wide(100)
    shards.texts["source"] = ["a", "b", "c"] * 100
    found = study(shards, labels_of(shards, y), Design(bootstrap=50, stability=True, group_columns=("source",)))
    (left_out,) = found.stability.left_out
    assert np.isnan(left_out.mean.value) and "100 images belong to several groups" in left_out.mean.note


def test_other_folds_give_about_the_same_and_fixed_folds_have_no_others(found: Study):
    others = found.stability.other_folds
    assert len(others) == 4 and len(set(others)) == 4
    assert all(abs(value - found.judgement.result(QUERY).auroc.value) < 0.03 for value in others)
    shards, y = wide(100)
    shards.texts["fold"] = [str(int(image) % 4) for image in shards.texts["image_id"]]
    fixed = study(shards, labels_of(shards, y), Design(bootstrap=50, stability=True, fold_column="fold"))
    assert fixed.stability.other_folds == ()


def test_it_is_asked_for():
    shards, y = planted(240, auroc=0.8)
    assert study(shards, labels_of(shards, y), Design(bootstrap=50)).stability is None
