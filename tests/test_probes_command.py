"""The command end to end: on real shards, without torch, and on input that cannot be used."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from probes_fake import BLOCK_TORCH, QUERY, VISION, FakeShards, labels_of, planted
from sklearn.metrics import roc_auc_score

from halp_probe.cli import run_script
from halp_probe.probes.command import TrainOptions, train
from halp_probe.probes.files import load_probe
from halp_probe.shards.columns import Columns
from halp_probe.shards.writer import write_shard

ROOT = Path(__file__).parent.parent


def write_inputs(folder: Path, shards: FakeShards, labels: dict[str, int | None]) -> list[str]:
    """Two shard files and labels.csv; the flags that name them."""
    (folder / "shards").mkdir()
    texts = {"question_id": list(shards.question_ids), **shards.texts}
    texts |= dict.fromkeys(("answer", "ground_truth_answer"), ["yes"] * len(shards.question_ids))
    columns = Columns(texts, shards.columns, shards.arrays)
    half = len(shards.question_ids) // 2
    for part, rows in enumerate((range(half), range(half, len(shards.question_ids))), 1):
        path = folder / "shards" / f"fake_embeddings_part_{part:03d}.h5"
        write_shard(path, columns.take(rows), {"model_name": "fake/vlm", "layers": [0, 3]}, question_view=False)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question_id", "label"])
        writer.writerows((name, "" if label is None else label) for name, label in labels.items())
    flags = ["--shards", folder / "shards", "--labels", folder / "labels.csv", "--output-dir", folder / "out"]
    return [str(flag) for flag in flags]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def draws_by_hand(oof: list[dict[str, str]], name: str, n_draws: int) -> np.ndarray:
    """[n_draws] mean AUROC over folds, with the rows of each drawn image repeated as often as it was drawn."""
    images = np.unique([row["image"] for row in oof], return_inverse=True)[1]
    y, fold = (np.array([int(row[key]) for row in oof]) for key in ("label", "fold"))
    score = np.array([float(row[name]) for row in oof])
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(n_draws):
        drawn = np.bincount(rng.integers(images.max() + 1, size=images.max() + 1), minlength=images.max() + 1)
        rows = np.repeat(np.arange(len(y)), drawn[images])
        parts = [rows[fold[rows] == k] for k in np.unique(fold)]
        draws.append(np.mean([roc_auc_score(y[part], score[part]) for part in parts]))
    return np.array(draws)


def test_real_shards_end_to_end_without_torch(tmp_path):
    shards, y = planted(240, auroc=0.85)
    labels = labels_of(shards, y) | {"q7": None}
    flags = write_inputs(tmp_path, shards, labels)
    code = f"{BLOCK_TORCH}from halp_probe.cli import run_script\nsys.exit(run_script('train-probes', '', sys.argv[1:]))"
    command = [sys.executable, "-W", "error", "-c", code, *flags, "--folds", "3", "--bootstrap", "50"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "label unknown (q7)" in done.stdout
    assert "2/2 query_token_representation/layer_3" in done.stderr

    out = tmp_path / "out"
    names = ["heatmap.png", "left_out.csv", "oof.csv", "probes", "results.csv"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert read(out / "left_out.csv") == [{"question_id": "q7", "reason": "label unknown"}]
    assert (out / "heatmap.png").read_bytes().startswith(b"\x89PNG")

    oof = read(out / "oof.csv")
    results = {row["name"]: row for row in read(out / "results.csv")}
    assert list(results) == [VISION, QUERY, "question_text", "first_token_entropy", "shuffled_labels"]
    by_hand = []
    for fold in "012":
        rows = [row for row in oof if row["fold"] == fold]
        by_hand.append(roc_auc_score([int(r["label"]) for r in rows], [float(r[QUERY]) for r in rows]))
    found = results[QUERY]
    assert float(found["auroc"]) == pytest.approx(np.mean(by_hand), abs=1e-12)
    assert float(found["ci_low"]) < float(found["auroc"]) < float(found["ci_high"])
    query, text = (draws_by_hand(oof, name, n_draws=50) for name in (QUERY, "question_text"))
    ends = [float(found[name]) for name in ("ci_low", "ci_high", "minus_text_low", "minus_text_high")]
    assert ends == pytest.approx([*np.percentile(query, (2.5, 97.5)), *np.percentile(query - text, (2.5, 97.5))])
    assert (found["position"], found["layer"], found["n"], found["n_images"]) == ("query_token", "3", "239", "80")
    assert int(found["n_positive"]) == sum(int(row["label"]) for row in oof)
    assert results["question_text"]["minus_text"] == ""

    probe = load_probe(out / "probes" / "query_token_representation_layer_3")
    assert probe.metadata["model_name"] == "fake/vlm"
    assert probe.metadata["training"]["auroc"] == float(found["auroc"])
    assert probe.metadata["training"]["rows"] == 239
    assert roc_auc_score(y, probe.predict_proba(shards.arrays[QUERY])[:, 1]) > 0.8

    last = done.stdout.splitlines()
    assert any(line.startswith("query token, layer 3") and line.endswith("*") for line in last)
    assert any("best of 2, picked on the same folds" in line for line in last)
    assert last[-1].startswith(f"{out}: results.csv")


@pytest.mark.parametrize(
    ("labels", "extra", "message"),
    [
        ({"other": 1}, [], "labels for other ids"),
        ({f"q{i}": 0 for i in range(30)}, [], "all 30 usable samples have label 0"),
        ({f"q{i}": i % 2 for i in range(30)}, ["--folds", "11"], "10 images cannot fill 11 folds"),
        ({f"q{i}": i % 2 for i in range(30)}, ["--representations", "x"], "no representation 'x'"),
        ({f"q{i}": i % 2 for i in range(30)}, ["--shards", "/nowhere"], "/nowhere does not exist"),
        ({f"q{i}": i % 2 for i in range(30)}, ["--output-dir", "/dev/null/x"], "cannot be written"),
        ({f"q{i}": int(i == 4) for i in range(30)}, [], "only 0 of 5 test folds hold both classes (1 of 30 labels"),
        ({"q1": 7}, [], "7"),
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
    for flags in (["--folds", "1"], ["--bootstrap", "0"], ["--probe", "tree"], []):
        with pytest.raises(SystemExit) as stopped:
            run_script("train-probes", "", flags)
        assert stopped.value.code == 2


def test_legacy_shards_without_hashes_and_entropy(tmp_path, capsys):
    shards, y = planted(60, auroc=0.9)
    texts = {name: shards.texts[name] for name in ("image_id", "question")}
    bare = FakeShards(shards.question_ids, shards.arrays, texts)
    options = TrainOptions(Path(), Path("labels.csv"), tmp_path, "linear", 0, 3, 20, None)
    judgement = train(bare, labels_of(bare, y), options)
    assert np.isnan({r.name: r for r in judgement.results}["first_token_entropy"].auroc.value)
    printed = capsys.readouterr().out
    assert "told apart by image_id" in printed
    assert "the shards have no first_token_entropy" in printed


def test_the_root_script_says_how_to_call_it():
    command = [sys.executable, "train_probes.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "python train_probes.py --shards" in done.stdout
