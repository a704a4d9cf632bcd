"""What is said of many layers at once holds for all of them at once, in as many data sets as it says.

Legend: B bootstrap draws, L scores.
"""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from probes_fake import labels_of
from realistic_study import LAYERS, realistic
from scipy.stats import norm, studentized_range
from test_probes_coverage import asked, distance, shared

from halp_probe.bootstrap import Draws
from halp_probe.probes.fitting.splits import outer_folds
from halp_probe.probes.judging.intervals import refit_spread
from halp_probe.probes.judging.metrics import MeasuredScore, judge
from halp_probe.probes.judging.rows import Rows
from halp_probe.probes.judging.simultaneous import (
    widened,
    widened_difference,
    widening,
    widening_of_differences,
)
from halp_probe.probes.outputs import write_results
from halp_probe.probes.study import Design, study
from halp_probe.report.content import report_content
from halp_probe.report.html import render_report


def scored(draws: np.ndarray, value: float = 0.7) -> MeasuredScore:
    return MeasuredScore(value=value, draws=draws, clusters=500, bounded=True)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_the_widening_of_independent_scores_is_that_of_theory(count: int) -> None:
    draws = 0.7 + 0.02 * np.random.default_rng(0).standard_normal((count, 40_000))
    scores = [scored(each) for each in draws]
    expected = norm.ppf((1 + 0.95 ** (1 / count)) / 2) / norm.ppf(0.975)
    assert widening(scores) == pytest.approx(expected, abs=0.01)
    if count > 1:  # the range of as many normal values (Tukey)
        tukey = studentized_range.ppf(0.95, count, np.inf) / np.sqrt(2) / norm.ppf(0.975)
        assert widening_of_differences(scores) == pytest.approx(tukey, abs=0.01)


def test_copies_of_one_score_widen_nothing_and_undefined_ones_are_left_out() -> None:
    draws = 0.7 + 0.02 * np.random.default_rng(0).standard_normal(2000)
    copies = [scored(draws) for _ in range(8)]
    assert widening(copies) == pytest.approx(1, abs=0.05) and widening_of_differences(copies) == 1
    undefined = scored(np.full(2000, np.nan), np.nan)
    assert widening([copies[0], undefined]) == widening(copies[:1])
    wide, plain = widened(copies[0], 2.0), copies[0].estimate
    gap = [np.log(e.high / (1 - e.high)) - np.log(e.low / (1 - e.low)) for e in (wide, plain)]
    assert gap[0] == pytest.approx(2 * gap[1])  # on the logit scale
    other = scored(draws[::-1].copy(), 0.6)
    narrow, broad = copies[0].minus(other), widened_difference(copies[0], other, 1.5)
    assert broad.high - broad.low == pytest.approx(1.5 * (narrow.high - narrow.low))


@pytest.fixture(scope="module")
def made():
    shards, y = realistic()
    return study(shards, labels_of(shards, y), Design(bootstrap=200))


def test_a_study_says_which_layers_beat_which(made, tmp_path) -> None:
    layers = made.layers
    last = f"query_token_representation/layer_{LAYERS[-1]}"
    assert layers.best == last and last in layers.above_chance
    assert "query_token_representation/layer_0" not in layers.above_chance
    for name, joint in layers.estimates.items():
        alone = made.judgement.result(name).auroc
        assert joint.value == alone.value and joint.low < alone.low and joint.high > alone.high
    near = replace(layers, judged={**layers.judged, "query_token_representation/layer_0": layers.judged[last]})
    assert near.rivals == ("query_token_representation/layer_0",) and layers.rivals == ()
    (text,) = [f.text for f in made.findings if f.text.startswith("With all representations judged at once")]
    assert f"{len(layers.above_chance)} of 5 representations" in text and "better than each of the others" in text
    write_results(tmp_path / "results.csv", made.judgement, layers, made.noise)
    with (tmp_path / "results.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert float(rows[last]["auroc_joint_low"]) == layers.estimates[last].low
    assert rows["selected_probe"]["auroc_joint_low"] == rows["question_text"]["auroc_joint_high"] == ""


def test_the_page_shows_the_joint_intervals(made) -> None:
    about = dict.fromkeys(("model_name", "revision", "shards", "labels"), "x") | {"seconds": 1.0}
    content = report_content(made, {}, about)
    page = render_report(content, {})
    layer_0 = next(each for each in content["results"] if each["name"].endswith("layer_0"))
    assert f"({layer_0['joint']['low']:.3f} to {layer_0['joint']['high']:.3f})" in page
    part = page.split("Where in the model")[1].split("All results")[0]
    assert f"{len(made.layers.above_chance)} of 5 are shown to be above 0.5" in part
    assert part.count("○ unclear") == sum(e.low <= 0.5 <= e.high for e in made.layers.estimates.values())


def by_means(X: np.ndarray, y: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of each fold's difference of means on all rows [K, N], and the differences [K, D]."""
    rows = [fold != k for k in range(5)]
    means = np.stack([X[r & (y == 1)].mean(axis=0) - X[r & (y == 0)].mean(axis=0) for r in rows])
    return means @ X.T, means


def joint_study(seed: int, *, signal: bool) -> dict[str, bool]:
    """Twelve layers that share half of what they hold, each with a probe of its own; the truth of each is known."""
    rng = np.random.default_rng(seed)
    y, images = asked(rng, 400, 4, 0.4)
    common, direction = shared(rng, images, 10), np.repeat([1.0, 0.0], 5) / np.sqrt(5)
    fold, risks, spreads, truth = outer_folds(y, images, 5, seed).fold, {}, {}, {}
    for layer, auroc in enumerate(np.linspace(0.6, 0.8, 12) if signal else np.full(12, 0.5)):
        own = np.sqrt(0.5) * (common + shared(rng, images, 10))
        scores, coefficients = by_means(own + distance(auroc) * y[:, None] * direction, y, fold)
        name = str(layer)
        risks[name], spreads[name] = scores[fold, np.arange(len(y))], refit_spread(scores, y)
        cosine = coefficients @ direction / np.linalg.norm(coefficients, axis=1)
        truth[name] = norm.cdf(cosine * norm.ppf(auroc)).mean() if signal else 0.5
    judged = judge(risks, Rows(y=y, fold=fold, images=images), Draws(count=200, seed=seed), spreads)
    factor = widening(list(judged.values()))
    joint = {name: widened(each, factor) for name, each in judged.items()}
    alone = {name: each.estimate for name, each in judged.items()}
    return {
        "joint": all(e.low <= truth[name] <= e.high for name, e in joint.items()),
        "alone": all(e.low <= truth[name] <= e.high for name, e in alone.items()),
        "joint above": any(e.low > 0.5 for e in joint.values()),
        "alone above": any(e.low > 0.5 for e in alone.values()),
    }


@pytest.mark.slow
def test_joint_intervals_hold_at_once_and_those_of_one_do_not() -> None:
    held = [joint_study(seed, signal=True) for seed in range(100)]
    assert np.mean([each["joint"] for each in held]) >= 0.9
    assert np.mean([each["alone"] for each in held]) < 0.9


@pytest.mark.slow
def test_of_twelve_layers_without_a_signal_none_is_called_better_than_chance() -> None:
    found = [joint_study(seed, signal=False) for seed in range(100)]
    assert np.mean([each["joint above"] for each in found]) <= 0.07
    assert np.mean([each["alone above"] for each in found]) > 0.1
