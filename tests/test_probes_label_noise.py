"""Bounds over unknown labels are those of all labellings; the correction undoes noise that was put in."""

from __future__ import annotations

import csv
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probes_fake import QUERY, VISION, labels_of, planted, write_inputs
from sklearn.metrics import roc_auc_score

from halp_probe.bootstrap import Estimate
from halp_probe.cli import run_script
from halp_probe.labels.check_sheet import COLUMNS
from halp_probe.probes.label_noise import LabelErrors, correct, extremes
from halp_probe.probes.study import Design, study

pytestmark = pytest.mark.slow

DESIGN = Design(folds=3, bootstrap=50)
SCORES = st.lists(st.integers(0, 5).map(float), max_size=7)


@given(st.lists(st.integers(0, 5).map(float), min_size=2, max_size=8), st.integers(1, 7), SCORES)
@settings(max_examples=200, deadline=None)
def test_the_extremes_are_those_of_all_labellings(known: list[float], positives: int, free: list[float]) -> None:
    y = np.array([1] * min(positives, len(known) - 1) + [0] * (len(known) - min(positives, len(known) - 1)))
    scores = np.array([*known, *free])
    every = [roc_auc_score([*y, *labels], scores) for labels in itertools.product((0, 1), repeat=len(free))]
    lowest, highest = extremes(np.array(known), y, np.array(free))
    assert (lowest, highest) == pytest.approx((min(every), max(every)))


def sure(share: float) -> Estimate:
    return Estimate(value=share, low=share, high=share)


def test_the_correction_undoes_noise_that_was_put_in() -> None:
    """Labels are turned with other chances for the two classes; the shares are those that a check would find."""
    rng = np.random.default_rng(0)
    true = (rng.random(200_000) < 0.3).astype(int)
    score = rng.normal(size=len(true)) + 1.2 * true
    seen = np.where(rng.random(len(true)) < np.where(true == 1, 0.1, 0.2), 1 - true, true)
    errors = LabelErrors(
        right_of_wrong=sure(np.mean(true[seen == 1] == 0)),
        wrong_of_right=sure(np.mean(true[seen == 0] == 1)),
        checked=9,
    )
    found = roc_auc_score(seen, score)
    corrected = correct(Estimate(value=found, low=found - 0.01, high=found + 0.01), errors)
    assert roc_auc_score(true, score) - found > 0.08
    assert corrected.value == pytest.approx(roc_auc_score(true, score), abs=0.005)
    assert corrected.low < corrected.value < corrected.high


def test_wider_shares_give_a_wider_range_and_none_a_reason() -> None:
    auroc = Estimate(value=0.7, low=0.65, high=0.75)
    narrow = correct(auroc, LabelErrors(right_of_wrong=sure(0.1), wrong_of_right=sure(0.1), checked=9))
    assert narrow.value == pytest.approx(0.75) and (narrow.low, narrow.high) == pytest.approx((0.6875, 0.8125))
    unsure = Estimate(value=0.1, low=0.0, high=0.3)
    wide = correct(auroc, LabelErrors(right_of_wrong=unsure, wrong_of_right=sure(0.1), checked=9))
    assert wide.value == narrow.value and wide.low < narrow.low and wide.high > narrow.high
    unknown = Estimate(value=np.nan, low=np.nan, high=np.nan)
    none = correct(auroc, LabelErrors(right_of_wrong=unknown, wrong_of_right=sure(0.1), checked=9))
    assert np.isnan(none.value) and none.note == "no row called hallucinated was checked"
    chance = correct(auroc, LabelErrors(right_of_wrong=sure(0.6), wrong_of_right=sure(0.5), checked=9))
    assert np.isnan(chance.value) and "chance" in chance.note


# the study


@pytest.fixture(scope="module")
def data():
    """A third of the rows are unknown."""
    shards, y = planted(240, auroc=0.8)
    labels = labels_of(shards, y)
    hidden = [key for n, key in enumerate(labels) if n % 3 == 2]
    return shards, y, labels, hidden


@pytest.fixture(scope="module")
def found(data):
    shards, _, labels, hidden = data
    return study(shards, {**labels, **dict.fromkeys(hidden)}, DESIGN)


def test_no_number_of_the_labelled_rows_changes(data, found) -> None:
    shards, _, labels, hidden = data
    without = study(shards, {key: label for key, label in labels.items() if key not in hidden}, DESIGN)
    assert not without.noise.bounds
    for name, score in found.judgement.scores.items():
        np.testing.assert_array_equal(score, without.judgement.scores[name])
    assert [result.auroc for result in found.judgement.results] == [r.auroc for r in without.judgement.results]


def test_the_bounds_hold_what_the_true_labels_give(data, found) -> None:
    bounds = found.noise.bounds["selected_probe"]
    assert bounds.unknown == 80 and found.noise.left_out == 0
    assert set(found.noise.bounds) == {"selected_probe", QUERY, VISION}
    for value in (bounds.if_right.value, bounds.if_wrong.value, found.judgement.headline.auroc.value):
        assert bounds.lowest <= value <= bounds.highest
    assert bounds.lowest < bounds.if_right.value != bounds.if_wrong.value < bounds.highest
    assert bounds.if_right.low < bounds.if_right.value < bounds.if_right.high
    assert any("80 answers whose label is unknown" in finding.text for finding in found.findings)


def test_if_they_are_right_is_the_auroc_by_hand(data, found) -> None:
    """Folds and scores of the unknown rows from the sweep, the AUROC from scikit-learn."""
    from halp_probe.probes.unknown_rows import unknown_rows

    unknown = unknown_rows(found.shards, found.rows, found.folds)
    for name in (QUERY, VISION):
        for label, told in ((0, found.noise.bounds[name].if_right), (1, found.noise.bounds[name].if_wrong)):
            by_hand = []
            for k in range(3):
                known, free = found.folds.fold == k, unknown.fold == k
                y = [*found.rows.y[known], *[label] * int(free.sum())]
                score = [*found.judgement.scores[name][known], *found.sweep.unknown[name][free]]
                by_hand.append(roc_auc_score(y, score))
            assert told.value == pytest.approx(np.mean(by_hand))


def test_an_unknown_row_is_scored_by_the_model_that_never_saw_its_image(data) -> None:
    """A copy of a labelled row, its label hidden, gets the very score of that row's own fold."""
    shards, _y, labels, _ = data
    copies = list(range(0, 60, 2))
    rows = [*range(240), *copies]
    doubled = replace(
        shards,
        question_ids=(*shards.question_ids, *(f"copy {n}" for n in copies)),
        arrays={name: values[rows] for name, values in shards.arrays.items()},
        texts={name: [values[n] for n in rows] for name, values in shards.texts.items()},
        columns={name: values[rows] for name, values in getattr(shards, "columns", {}).items()},
    )
    own = study(doubled, {**labels, **{f"copy {n}": None for n in copies}}, DESIGN)
    for name in (QUERY, VISION):
        np.testing.assert_allclose(own.sweep.unknown[name], own.judgement.scores[name][copies], rtol=1e-4, atol=1e-4)


# the command


def test_files_page_and_terminal_tell_it(tmp_path: Path, data, capsys: pytest.CaptureFixture[str]) -> None:
    shards, _y, labels, hidden = data
    flags = write_inputs(tmp_path, shards, {**labels, **dict.fromkeys(hidden)})
    sheet = tmp_path / "labels.check.csv"
    with sheet.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for n, (key, label) in enumerate(item for item in labels.items() if item[0] not in hidden):
            writer.writerow((key, label if n % 10 else 1 - label, "", "", "", 1.0, 1 + label))
    flags += ["--folds", "3", "--bootstrap", "50", "--label-check", str(sheet)]
    assert run_script("train-probes", "", flags) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "80 answers whose label is unknown are not in these numbers" in told
    assert "By 160 labels that were checked by hand" in told and "On true labels the AUROC would be" in told
    out = Path(flags[flags.index("--output-dir") + 1])
    lines = {line["name"]: line for line in csv.DictReader((out / "results.csv").open(newline=""))}
    assert lines["selected_probe"]["n_unknown"] == "80" and lines["shuffled_labels"]["n_unknown"] == ""
    noise = json.loads((out / "report.json").read_text())["label_noise"]
    assert float(lines["selected_probe"]["auroc_lowest"]) == noise["bounds"]["selected_probe"]["lowest"]
    assert noise["corrected"]["value"] > float(lines["selected_probe"]["auroc"])
    assert "80 answers whose label is unknown" in (out / "report.html").read_text()


def test_a_sheet_of_other_questions_is_refused(tmp_path: Path, data, capsys: pytest.CaptureFixture[str]) -> None:
    shards, _, labels, _ = data
    flags = write_inputs(tmp_path, shards, labels)
    (tmp_path / "c.csv").write_text(",".join(COLUMNS) + "\nother,1,,,,1.0,1\n")
    assert run_script("train-probes", "", [*flags, "--label-check", str(tmp_path / "c.csv")]) == 2
    assert "none of the questions that were checked is in the labels" in capsys.readouterr().err
