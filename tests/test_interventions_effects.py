"""What an intervention did, against counts by hand and simulation."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from shard_data import ATTRIBUTES, columns

from halp_probe.bootstrap import Draws
from halp_probe.errors import InputError
from halp_probe.interventions.directions import direction_of
from halp_probe.interventions.effects import Runs, effects, mean_estimates, read_runs
from halp_probe.interventions.outputs import count_turns, measure_movement, summary, write_csv, write_json
from halp_probe.probes.files import SavedProbe, load_probe, save_probe
from halp_probe.probes.fitting.estimators import LinearProbe
from halp_probe.shards.reader import open_shards
from halp_probe.shards.writer import write_shard

REPRESENTATION = "query_token_representation/layer_7"
# id: image, truth, then the answers of plain, ablated and control
ROWS = {
    "a": ("x", "yes", "Yes.", "no", "yes"),  # right to wrong
    "b": ("x", "no", "yes", "no", "yes"),  # wrong to right
    "c": ("y", "yes", "yes", "yes", "yes"),
    "d": ("y", "3", "three", "3", "3"),  # the same number, another text
    "e": ("z", "", "blue", "red", "blue"),  # no ground truth
    "f": ("z", "no", "no", "No!", "yes"),  # right to wrong by the control
}


@pytest.fixture
def probe(tmp_path: Path) -> SavedProbe:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((100, 8)), rng.integers(0, 2, 100)
    save_probe(tmp_path / "probe", LinearProbe(Cs=(1e-2,)).fit(x, y), {"representation": REPRESENTATION})
    return load_probe(tmp_path / "probe")


@pytest.fixture
def runs(probe: SavedProbe, tmp_path: Path) -> Runs:
    """Three folders; the ablated one has its rows in another order and a stranger, the control lacks a row of plain."""
    orders = {"plain": [*ROWS, "only plain"], "ablated": [*reversed(ROWS), "only ablated"], "control": [*ROWS]}
    for k, (name, ids) in enumerate(orders.items()):
        made = columns(ids, seed=k)
        told = [ROWS.get(question_id, ("w", "yes", "no", "no", "no")) for question_id in ids]
        texts = {
            "image_id": [f"{row[0]}.png" for row in told],
            "image_sha256": [row[0] * 64 for row in told],
            "ground_truth_answer": [row[1] for row in told],
            "answer": [row[2 + k] for row in told],
        }
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name / "x_embeddings_part_001.h5", replace(made, texts=made.texts | texts), ATTRIBUTES)
    return read_runs({name: open_shards(tmp_path / name) for name in orders}, probe)


def test_questions_are_paired_by_their_ids(runs: Runs, probe: SavedProbe, tmp_path: Path) -> None:
    assert runs.question_ids == list(ROWS) and runs.left_out == 2
    assert list(runs.images) == [0, 0, 1, 1, 2, 2]
    for k, name in enumerate(("plain", "ablated", "control")):
        run, shards = runs.of[name], open_shards(tmp_path / name)
        assert run.answers == [row[2 + k] for row in ROWS.values()]
        at = [shards.question_ids.index(question_id) for question_id in ROWS]
        assert np.array_equal(run.values["risk"], probe.risk(shards.vectors(REPRESENTATION)[at]))
        assert np.array_equal(run.values["entropy"], shards.numbers("first_token_entropy")[at])
        assert np.array_equal(run.values["logprob"], shards.numbers("first_token_logprob")[at])
    assert list(runs.of["ablated"].values["changed"]) == [1, 1, 0, 1, 1, 0]  # neither case nor punctuation counts
    assert list(runs.of["control"].values["changed"]) == [0, 0, 0, 1, 0, 1]
    assert runs.of["plain"].values["wrong"] == pytest.approx([0, 1, 0, 0, np.nan, 0], nan_ok=True)
    assert runs.of["ablated"].values["wrong"] == pytest.approx([1, 0, 0, 0, np.nan, 0], nan_ok=True)
    assert count_turns(runs, "ablated") == {"right_to_wrong": 1, "wrong_to_right": 1, "without_verdict": 1}
    assert count_turns(runs, "control") == {"right_to_wrong": 1, "wrong_to_right": 0, "without_verdict": 1}


def test_effects_are_means_and_paired_differences(runs: Runs) -> None:
    found = {effect.measure: effect for effect in effects(runs, Draws(count=100, seed=0))}
    assert list(found) == ["changed", "wrong", "risk", "entropy", "logprob"]
    assert found["changed"].questions == 6 and found["wrong"].questions == 5
    assert {name: e.value for name, e in found["changed"].mean.items()} == pytest.approx(
        {"plain": 0, "ablated": 4 / 6, "control": 2 / 6}
    )
    assert {name: e.value for name, e in found["wrong"].mean.items()} == pytest.approx(
        {"plain": 1 / 5, "ablated": 1 / 5, "control": 2 / 5}
    )
    for measure, effect in found.items():
        values = {name: run.values[measure] for name, run in runs.of.items()}
        for (run, minus), estimate in effect.difference.items():
            assert estimate.value == pytest.approx(np.nanmean(values[run] - values[minus])), (measure, run, minus)
    assert found["changed"].difference["control", "plain"].low < 2 / 6
    with_no_truth = replace(
        runs, of={n: replace(r, values={**r.values, "wrong": np.full(6, np.nan)}) for n, r in runs.of.items()}
    )
    assert "wrong" not in [effect.measure for effect in effects(with_no_truth, Draws(count=100, seed=0))]


def test_runs_with_nothing_in_common_are_refused(runs: Runs, probe: SavedProbe, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write_shard(tmp_path / "other" / "x_embeddings_part_001.h5", columns(["q"]), ATTRIBUTES)
    folders = {"plain": "plain", "ablated": "other", "control": "control"}
    with pytest.raises(InputError, match="no question went through all runs"):
        read_runs({name: open_shards(tmp_path / folder) for name, folder in folders.items()}, probe)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Rows of one image move together; three columns: a share, a difference of shares, an unbounded measure."""
    rng = np.random.default_rng(0)
    images, held = np.repeat(np.arange(60), 4), np.zeros((500, 3), dtype=bool)
    rates = norm.sf([1.0 / np.sqrt(2), 1.3 / np.sqrt(2)])
    truth = (rates[0], rates[0] - rates[1], 0.0)
    for k in range(len(held)):
        image = rng.standard_normal(60)[images]  # [N]
        one, other = (image + rng.standard_normal(len(images)) > level for level in (1.0, 1.3))
        drawn = np.stack([one, one.astype(float) - other, image + rng.standard_normal(len(images))])
        found = mean_estimates(drawn, [True, False, False], images, Draws(count=300, seed=k))
        held[k] = [e.low <= t <= e.high for e, t in zip(found, truth, strict=True)]
    assert ((held.mean(axis=0) > 0.92) & (held.mean(axis=0) < 0.98)).all()


def test_a_share_of_changed_answers_has_an_interval_even_at_zero(runs: Runs) -> None:
    still = replace(runs.of["ablated"], values={**runs.of["ablated"].values, "changed": np.zeros(6)})
    changed = effects(replace(runs, of={**runs.of, "ablated": still}), Draws(count=100, seed=0))[0]
    assert changed.difference["ablated", "plain"] == changed.mean["ablated"]
    assert changed.mean["ablated"].high == pytest.approx(1 - 0.025 ** (1 / 3))  # three images without a change


def test_no_difference_is_not_certainty() -> None:
    images = np.repeat(np.arange(30), 2)
    none, one = np.zeros(60), np.eye(60)[0]
    share, rare, difference, rare_difference = mean_estimates(
        np.stack([none, one, none, -one]), [True, True, False, False], images, Draws(count=50, seed=0)
    )
    assert (share.value, share.low) == (0, 0) and share.high == pytest.approx(1 - 0.025 ** (1 / 30))
    for estimate in (rare, difference, rare_difference):
        assert np.isnan([estimate.low, estimate.high]).all() and "of 30 images differ" in estimate.note
    assert (rare.value, difference.value, rare_difference.value) == pytest.approx((1 / 60, 0, -1 / 60))


def test_how_far_the_states_moved(runs: Runs, probe: SavedProbe) -> None:
    direction = direction_of(probe)
    plain = runs.of["plain"].vectors.astype(np.float64)
    projected = plain + np.outer(0.25 - plain @ direction, direction)
    after = {**runs.of, "ablated": replace(runs.of["ablated"], vectors=projected)}
    expected = np.sqrt(((0.25 - plain @ direction) ** 2).mean() / (plain**2).sum(axis=1).mean())
    assert measure_movement(replace(runs, of=after), "ablated") == pytest.approx(expected)
    assert measure_movement(runs, "plain") == 0


def test_files_hold_every_question_and_every_estimate(runs: Runs, probe: SavedProbe, tmp_path: Path) -> None:
    found = effects(runs, Draws(count=100, seed=0))
    write_csv(tmp_path / "ablation.csv", runs)
    write_json(tmp_path / "ablation.json", {"probe": "p"}, runs, found)
    with (tmp_path / "ablation.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["question_id"] for line in lines] == list(ROWS)
    first, unknown = lines[0], lines[4]
    assert (first["answer_plain"], first["answer_ablated"], first["answer_control"]) == ("Yes.", "no", "yes")
    assert (first["changed_ablated"], first["changed_control"]) == ("1", "0")
    assert (first["label_plain"], first["label_ablated"], unknown["label_plain"]) == ("0", "1", "")
    for name, run in runs.of.items():
        assert [float(line[f"risk_{name}"]) for line in lines] == list(run.values["risk"])
        assert [float(line[f"entropy_{name}"]) for line in lines] == list(run.values["entropy"])
    record = json.loads((tmp_path / "ablation.json").read_text())
    assert (record["probe"], record["questions"], record["images"], record["left_out"]) == ("p", 6, 3, 2)
    assert record["verdicts"]["ablated"] == count_turns(runs, "ablated")
    for effect in found:
        told = record["effects"][effect.measure]
        assert told["difference"]["ablated - control"]["value"] == effect.difference["ablated", "control"].value
        assert told["mean"]["control"]["value"] == effect.mean["control"].value
    said = " ".join(summary(runs, found, {"ablated": 0.04, "control": 0.12}, "removed").split())
    for text in ("answers changed", "+0.667", "by construction", "2 questions are not in all runs", "12.00%"):
        assert text in said
    assert "a random direction, taken out:" in said and "`control='moved'`" in said
    assert "ablated: 1 went from right to wrong, 1 from wrong to right; control: 1 went" in said
    for moved, how in (({"ablated": 0.1, "control": 0.12}, "removed"), ({"ablated": 0.04, "control": 0.12}, "moved")):
        assert "differ in size" not in summary(runs, found, moved, how)
