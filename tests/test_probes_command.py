"""The command end to end: on real shards, without torch, and on input that cannot be used."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from probes_fake import BLOCK_TORCH, QUERY, VISION, FakeShards, labels_of, planted, write_inputs
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from halp_probe.cli import run_script
from halp_probe.probes.files import load_probe
from halp_probe.probes.judging.calibration import Calibration
from halp_probe.probes.study import Design, study

ROOT = Path(__file__).parent.parent


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def draws_by_hand(oof: list[dict[str, str]], name: str, n_draws: int) -> np.ndarray:
    """[1 + n_draws] mean AUROC over folds: of the rows, then with each drawn image's rows as often as it was drawn."""
    images = np.unique([row["image"] for row in oof], return_inverse=True)[1]
    y, fold = (np.array([int(row[key]) for row in oof]) for key in ("label", "fold"))
    score = np.array([float(row[name]) for row in oof])
    rng = np.random.default_rng(0)
    times = [np.ones(images.max() + 1, dtype=int)]
    for _ in range(n_draws):
        times.append(np.bincount(rng.integers(images.max() + 1, size=images.max() + 1), minlength=images.max() + 1))
    draws = []
    for drawn in times:
        rows = np.repeat(np.arange(len(y)), drawn[images])
        parts = [rows[fold[rows] == k] for k in np.unique(fold)]
        draws.append(np.mean([roc_auc_score(y[part], score[part]) for part in parts]))
    return np.array(draws)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run in a process of its own, without torch: what it printed, its folder, and what it was run on."""
    folder = tmp_path_factory.mktemp("trained")
    shards, y = planted(240, auroc=0.85)
    shards.texts["source"] = [("a", "b")[row % 2] for row in range(240)]
    flags = write_inputs(folder, shards, labels_of(shards, y) | {"q7": None})
    code = f"{BLOCK_TORCH}from halp_probe.cli import run_script\nsys.exit(run_script('train-probes', '', sys.argv[1:]))"
    flags += ["--folds", "3", "--bootstrap", "50", "--group-columns", "source", "--max-error", "0.2"]
    command = [sys.executable, "-W", "error", "-c", code, *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done, folder / "out", shards, y


def test_real_shards_end_to_end_without_torch(trained):
    done, out, _, _ = trained
    assert "label unknown (q7)" in done.stdout
    assert "6/6 probes" in done.stderr and "difference" in done.stderr
    names = ["differences.csv", "heatmap.png", "left_out.csv", "oof.csv", "probes"]
    assert sorted(path.name for path in out.iterdir()) == [*names, "report.html", "report.json", "results.csv"]
    assert read(out / "left_out.csv") == [{"question_id": "q7", "reason": "label unknown"}]
    assert (out / "heatmap.png").read_bytes().startswith(b"\x89PNG")
    lines = done.stdout.splitlines()
    assert any(line.startswith("query token, layer 3") and line.endswith("3 folds") for line in lines)
    assert any(line.startswith("selected probe: its representation and its penalty") for line in lines)
    assert lines[-1].startswith(f"{out}: report.html")
    assert any(line.startswith("selected_probe: answer up to risk ") for line in lines)


def test_every_number_can_be_had_from_oof_csv(trained):
    """AUROCs, intervals and differences by an explicit loop over what was saved."""
    _, out, _, _ = trained
    oof, results = read(out / "oof.csv"), {row["name"]: row for row in read(out / "results.csv")}
    baselines = ["lookup_of_source", "question_text", "image_alone", "first_token_entropy"]
    assert [name for name, row in results.items() if row["kind"] == "baseline" and row["auroc"]] == baselines
    rarer = min(len({row["image"] for row in oof if row["label"] == label}) for label in "01")
    by_hand = {}
    for name in ("selected_probe", VISION, QUERY, *baselines):
        draws = draws_by_hand(oof, name, n_draws=50)
        by_hand[name] = value = draws_by_hand(oof, name, n_draws=0)[0]
        assert float(results[name]["auroc"]) == pytest.approx(value, abs=1e-12)
        logit, deviation = np.log(value / (1 - value)), float(results[name]["spread"]) * draws[1:].std(ddof=1)
        reach = student.ppf(0.975, rarer - 1) * deviation / (value * (1 - value))
        ends = [1 / (1 + np.exp(-(logit + sign * reach))) for sign in (-1, 1)]
        assert [float(results[name][key]) for key in ("auroc_low", "auroc_high")] == pytest.approx(ends)
    differences = {(row["name"], row["minus"]): float(row["auroc_difference"]) for row in read(out / "differences.csv")}
    assert differences[QUERY, "question_text"] == pytest.approx(by_hand[QUERY] - by_hand["question_text"])
    for control in ("shuffled_labels", "random_label_per_image", "random_label_per_image_split_by_row"):
        own = [{**row, "label": row[f"{control}_label"], "fold": row[f"{control}_fold"]} for row in oof]
        value, *draws = draws_by_hand(own, control, 50)
        assert float(results[control]["auroc"]) == pytest.approx(value, abs=1e-12)
        having = min(len({row["image"] for row in own if row["label"] == label}) for label in "01")
        reach = student.ppf(0.975, having - 1) * np.sqrt(2) * np.std(draws, ddof=1) / (value * (1 - value))
        low = 1 / (1 + np.exp(reach - np.log(value / (1 - value))))
        assert float(results[control]["auroc_low"]) == pytest.approx(low)
    (groups,) = json.loads((out / "report.json").read_text())["groups"]
    for group in groups["rows"]:
        inside = [row for row in oof if row["group_source"] == group["value"]]
        pairs = [
            float(wrong["selected_probe"]) > float(right["selected_probe"])
            for wrong in inside
            for right in inside
            if (wrong["label"], right["label"]) == ("1", "0") and wrong["fold"] == right["fold"]
        ]
        assert group["auroc"]["value"] == pytest.approx(np.mean(pairs))
    found = results[QUERY]
    assert (found["position"], found["layer"], found["n"], found["n_images"]) == ("query_token", "3", "239", "80")
    assert int(found["n_positive"]) == sum(int(row["label"]) for row in oof)
    for row in oof:
        assert row["selected_probe"] == row[row["selected_probe_representation"]]
        assert 0 < float(row["selected_probe_risk"]) < 1


def test_probes_are_saved_with_calibration_threshold_and_provenance(trained):
    _, out, shards, y = trained
    results = {row["name"]: row for row in read(out / "results.csv")}
    stems = sorted(path.stem for path in (out / "probes").glob("*.json"))
    plain = ["query_token_representation_layer_3", "selected_probe", "vision_only_representation"]
    fused = [f"fused_{way}{twin}" for way in ("concat", "mean", "stack") for twin in ("", "_and_confidence")]
    assert stems == sorted([*plain, *fused])
    probe = load_probe(out / "probes" / "query_token_representation_layer_3")
    assert probe.metadata["model_name"] == "fake/vlm"
    assert probe.metadata["training"]["auroc"] == float(results[QUERY]["auroc"])
    assert probe.metadata["training"]["rows"] == 239
    assert probe.calibration.kind == "platt"
    assert probe.threshold.error < probe.threshold.error_bound <= 0.2 == probe.threshold.max_error
    assert roc_auc_score(y, probe.risk(shards.arrays[QUERY])) > 0.8
    selected = load_probe(out / "probes" / "selected_probe")
    assert (selected.risk(shards.arrays[QUERY]) == probe.risk(shards.arrays[QUERY])).all()
    assert selected.metadata["training"]["auroc"] == float(results["selected_probe"]["auroc"])


def test_a_saved_calibration_is_of_folds_with_the_strength_of_the_saved_probe(trained):
    _, out, shards, _ = trained
    oof = read(out / "oof.csv")
    rows = [int(row["question_id"].removeprefix("q")) for row in oof]
    label, fold = (np.array([int(row[name]) for row in oof]) for name in ("label", "fold"))
    for name in (VISION, QUERY):
        saved, X = load_probe(out / "probes" / name.replace("/", "_")), shards.arrays[name][rows].astype(np.float64)
        logit = np.empty(len(rows))
        for k in range(3):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=saved.metadata["C"], tol=1e-10, max_iter=5000))
            logit[fold == k] = model.fit(X[fold != k], label[fold != k]).decision_function(X[fold == k])
        expected = Calibration.fit("platt", logit, label)
        at = np.linspace(-2, 2, 9)
        np.testing.assert_allclose(saved.calibration(at), expected(at), atol=2e-3)


@pytest.mark.parametrize(
    ("labels", "extra", "message"),
    [
        ({"other": 1}, [], "labels for other ids"),
        ({f"q{i}": 0 for i in range(30)}, [], "all 30 usable samples have label 0"),
        ({f"q{i}": i % 2 for i in range(30)}, ["--folds", "11"], "10 images cannot fill 11 folds"),
        ({f"q{i}": i % 2 for i in range(30)}, ["--folds", "11"], "; pass --folds 10, or label more questions"),
        ({f"q{i}": i % 2 for i in range(30)}, ["--folds", "2"], "2 folds leave no inner folds to choose"),
        ({f"q{i}": i % 2 for i in range(30)}, ["--folds", "2"], "; pass --folds 3, or label more questions"),
        ({f"q{i}": i % 2 for i in range(30)}, ["--representations", "x"], "no representation 'x'"),
        ({f"q{i}": i % 2 for i in range(30)}, ["--shards", "/nowhere"], "/nowhere does not exist"),
        ({f"q{i}": i % 2 for i in range(30)}, ["--output-dir", "/dev/null/x"], "cannot be written"),
        ({f"q{i}": int(i == 4) for i in range(30)}, [], "only 0 of 5 test folds hold both classes (1 of 30 labels"),
        ({"q1": 7}, [], "7"),
        ({}, ["--preset", "halp", "--probe", "linear"], "--probe does not go with --preset halp"),
        ({}, ["--preset", "halp", "--folds", "5"], "--folds does not go with --preset halp"),
        ({}, ["--preset", "halp", "--strengths", "1"], "--strengths does not go with --preset halp"),
        ({}, ["--probe", "mlp", "--strengths", "1"], "--strengths does not go with --probe mlp"),
        ({}, ["--images-dir", "/nowhere"], "--images-dir /nowhere is not a folder"),
        pytest.param(
            {},
            ["--device", "cuda"],
            "--device cuda: torch finds no GPU here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_bad_input_is_one_clear_line_and_status_2(tmp_path, capsys, labels, extra, message):
    shards, _ = planted(30, auroc=0.8)
    flags = write_inputs(tmp_path, shards, labels)
    assert run_script("train-probes", "", [*flags, *extra]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error


def test_bad_flags_are_refused(tmp_path, capsys):
    for flags in (["--folds", "1"], ["--bootstrap", "0"], ["--probe", "tree"], ["--device", "gpu"], []):
        with pytest.raises(SystemExit) as stopped:
            run_script("train-probes", "", flags)
        assert stopped.value.code == 2


def test_legacy_shards_without_hashes_and_entropy():
    shards, y = planted(60, auroc=0.9)
    texts = {name: shards.texts[name] for name in ("image_id", "question")}
    bare = FakeShards(shards.question_ids, shards.arrays, texts)
    found = study(bare, labels_of(bare, y), Design(folds=3, bootstrap=20))
    entropy = found.judgement.result("first_token_entropy")
    assert np.isnan(entropy.auroc.value)
    assert "the shards have no first_token_entropy" in entropy.note
    assert any("told apart by image_id" in finding.text for finding in found.findings)


def test_the_root_script_explains_itself_in_one_screen():
    command = [sys.executable, "train_probes.py", "--help"]
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    assert "python train_probes.py --shards" in done.stdout
    assert len(done.stdout.splitlines()) <= 44  # one tall screen
