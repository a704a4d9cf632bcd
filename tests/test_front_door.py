"""The verbs that `import halp_probe` offers return what the commands write, and print nothing."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from probes_fake import QUERY, VISION, labels_of, planted
from sklearn.metrics import roc_auc_score

import halp_probe
from halp_probe.cli import main
from halp_probe.datasets import TableError
from halp_probe.probes.errors import ProbeError
from halp_probe.scoring.compatibility import check_fits
from halp_probe.shapes.dataset import write_dataset

MADE_NEW = {"created_at"}  # attributes of a shard


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scenes with three questions each, the picture of one broken; its last question has no ground truth."""
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, n_scenes=6, questions_a_scene=3, seed=900)
    (folder / "images" / "scene_000904.png").write_bytes(b"not a picture")
    return folder


def call(data: Path) -> list[str]:
    table, images = str(data / "vqa.csv"), str(data / "images")
    return ["extract", "--vqa-dataset", table, "--images-dir", images, "--model", "shapes"]


@pytest.fixture(scope="module")
def by_command(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `extract.py` leaves."""
    output = tmp_path_factory.mktemp("command") / "states"
    assert main([*call(data), "--output-dir", str(output), "--max-new-tokens", "6", "--checkpoint-interval", "8"]) == 0
    return output


def extract(table: object, data: Path, output: Path, **options: object) -> halp_probe.Extraction:
    chosen = {"model": "shapes", "max_new_tokens": 6, "checkpoint_interval": 8, **options}
    return halp_probe.extract(table, data / "images", output, **chosen)  # type: ignore[arg-type]


def assert_same(one: halp_probe.Shards, other: halp_probe.Shards) -> None:
    """All columns to the bit, and all attributes."""
    assert [file.name for file in one.files] == [file.name for file in other.files]
    assert (one.counts, one.question_ids) == (other.counts, other.question_ids)
    assert (one.representations, one.text_columns) == (other.representations, other.text_columns)
    assert all(np.array_equal(one.vectors(name), other.vectors(name)) for name in one.representations)
    assert all(one.text(name) == other.text(name) for name in one.text_columns)
    assert all(np.array_equal(one.numbers(name), other.numbers(name)) for name in one.number_columns)
    told, also = ({k: v for k, v in each.attributes.items() if k not in MADE_NEW} for each in (one, other))
    assert told == also


@pytest.mark.parametrize("kind", ["path", "frame", "rows"])
def test_extract_gives_the_shards_of_the_command(
    kind: str, data: Path, by_command: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = data / "vqa.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    table = {"path": path, "frame": pd.read_csv(path, dtype=str, keep_default_na=False), "rows": rows}[kind]
    extraction = extract(table, data, tmp_path / "states")
    assert_same(extraction.shards, halp_probe.open_shards(by_command))
    assert (extraction.captured, extraction.already_done, extraction.stopped) == (15, 0, False)
    assert {failure.stage for failure in extraction.failures} == {"image"} and len(extraction.failures) == 3
    assert capfd.readouterr() == ("", "")
    again = extract(table, data, tmp_path / "states")
    assert (again.captured, again.already_done) == (0, 15)


def test_a_model_that_is_loaded_is_taken_as_it_is(data: Path, by_command: Path, tmp_path: Path) -> None:
    loaded = halp_probe.load_model("shapes")
    assert_same(extract(data / "vqa.csv", data, tmp_path, model=loaded).shards, halp_probe.open_shards(by_command))


def test_cells_of_rows_in_memory_become_text_and_what_is_missing_is_blank(data: Path, tmp_path: Path) -> None:
    about = {"image_id": "scene_000900.png", "question": "How many shapes are there?"}
    cells = [7, "007", 1.0, None, float("nan"), pd.NA]
    rows = [{"question_id": k, **about, "answer": cell} for k, cell in enumerate(cells)]
    shards = extract(rows, data, tmp_path, layers=[0]).shards
    assert shards.question_ids == ("0", "1", "2", "3", "4", "5")
    assert shards.text("ground_truth_answer") == ["7", "007", "1.0", "", "", ""]
    with pytest.raises(TableError, match="the table lacks the columns question"):
        extract([{"question_id": "a", "image_id": "x", "answer": ""}], data, tmp_path / "other")


def test_each_step_is_reported_and_a_run_that_is_asked_to_stop_goes_on_later(data: Path, tmp_path: Path) -> None:
    steps: list[halp_probe.Step] = []
    first = extract(
        data / "vqa.csv", data, tmp_path, batch_tokens=1, progress=steps.append, should_stop=lambda: len(steps) > 3
    )
    assert first.stopped and 0 < first.captured < 15
    done = [step.done for step in steps]
    assert done[0] == 0 and done == sorted(done) and {step.total for step in steps} == {18}
    assert done[-1] == first.captured + len(first.failures) and steps[-1].failed == len(first.failures)
    second = extract(data / "vqa.csv", data, tmp_path, batch_tokens=1)
    assert (second.captured + first.captured, second.already_done, second.stopped) == (15, first.captured, False)


def test_other_settings_are_refused_with_the_parameter_s_name_here_and_the_flag_s_in_a_shell(
    data: Path, by_command: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(halp_probe.InputError, match=r"max_new_tokens is 6 there and 5 now.*another `output_dir`"):
        extract(data / "vqa.csv", data, by_command, max_new_tokens=5)
    assert main([*call(data), "--output-dir", str(by_command), "--max-new-tokens", "5"]) == 2
    assert "choose another --output-dir" in capsys.readouterr().err


def test_capture_reads_what_extract_stores(data: Path, by_command: Path) -> None:
    shards = halp_probe.open_shards(by_command)
    row = shards.question_ids.index(shards.question_ids[0])
    image, question = data / "images" / shards.text("image_id")[row], shards.text("question")[row]
    captured = halp_probe.capture("shapes", image, question, max_new_tokens=6)
    for layer, state in captured.query_token.items():
        stored = shards.vectors(f"query_token_representation/layer_{layer}")[row]
        assert np.linalg.norm(state - stored) <= 1e-5 * np.linalg.norm(stored)
    assert captured.answer == shards.text("answer")[row]
    assert captured.query_index == shards.numbers("token_index/query")[row]
    assert captured.image_sha256 == shards.text("image_sha256")[row]


def test_label_gives_what_the_command_writes(
    by_command: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    labels = halp_probe.label(halp_probe.open_shards(by_command))
    assert capfd.readouterr() == ("", "")
    labels.write(tmp_path / "by_verb.csv")
    assert main(["label", "--shards", str(by_command), "--out", str(tmp_path / "by_command.csv")]) == 0
    assert (tmp_path / "by_verb.csv").read_bytes() == (tmp_path / "by_command.csv").read_bytes()
    frame = labels.frame().set_index("question_id")
    assert {key: None if pd.isna(value) else int(value) for key, value in frame["label"].items()} == dict(labels)
    assert halp_probe.read_labels(tmp_path / "by_verb.csv").rows == labels.rows


def test_frames_hold_the_columns(by_command: Path) -> None:
    shards = halp_probe.open_shards(by_command)
    frame = shards.frame()
    assert list(frame["question"]) == shards.text("question")
    assert np.array_equal(frame["first_token_entropy"], shards.numbers("first_token_entropy"))
    assert len(frame) == len(shards.question_ids)


def test_a_feature_of_one_s_own_is_judged_on_the_same_folds() -> None:
    shards, y = planted(240, auroc=0.8)
    difference = shards.arrays[QUERY] - shards.arrays[VISION]
    design = halp_probe.Design(bootstrap=50)
    features = {"query - vision": difference, "in a function": lambda s: s.vectors(QUERY) - s.vectors(VISION)}
    found = halp_probe.study(shards, labels_of(shards, y), design, features=features)
    plain = halp_probe.study(shards, labels_of(shards, y), design)
    assert np.array_equal(found.folds.fold, plain.folds.fold)
    for name in (QUERY, VISION):
        assert found.judgement.result(name).auroc == plain.judgement.result(name).auroc
    own, also = (found.judgement.scores[name] for name in features)
    assert np.array_equal(own, also)
    stored = replace(shards, arrays={**shards.arrays, "query_token_representation/layer_9": difference})
    as_stored = halp_probe.study(stored, labels_of(shards, y), design)
    assert np.array_equal(own, as_stored.judgement.scores["query_token_representation/layer_9"])
    auroc = found.judgement.result("query - vision").auroc.value
    folds = [found.folds.fold == k for k in range(found.folds.count)]
    assert auroc == pytest.approx(np.mean([roc_auc_score(found.rows.y[f], own[f]) for f in folds]))
    assert found.frame().loc["query - vision", "auroc"] == auroc


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"short": np.zeros((3, 2))}, r"'short' is an array of shape \(3, 2\).*\(90, F\)"),
        ({"text": np.full((90, 1), "a")}, "'text' is an array"),
        ({QUERY: np.zeros((90, 1))}, "another name"),
        ({"a b": np.zeros((90, 1)), "a/b": np.zeros((90, 1))}, "'a/b' has the same file name as 'a b'"),
        ({" ": np.zeros((90, 1))}, "a name of one line"),
        ({"hole": np.r_[np.full((1, 2), [1, np.nan]), np.zeros((89, 2))]}, "hole of 'q0' holds NaN"),
    ],
)
def test_a_feature_that_fits_no_rows_is_refused(features: dict[str, np.ndarray], message: str) -> None:
    shards, y = planted(90, auroc=0.8)
    with pytest.raises(ProbeError, match=message):
        halp_probe.study(shards, labels_of(shards, y), halp_probe.Design(bootstrap=20), features=features)


def test_a_report_has_the_feature_and_its_saved_probe_reads_arrays_alone(tmp_path: Path) -> None:
    shards, y = planted(240, auroc=0.8)
    strong = shards.arrays[QUERY] + y[:, None].astype(np.float32)
    design = halp_probe.Design(bootstrap=50)
    found = halp_probe.study(shards, labels_of(shards, y), design, features={"strong one": strong})
    halp_probe.write_report(found, tmp_path, labels="mine.csv")
    report = json.loads((tmp_path / "report.json").read_text())
    assert "strong one" in {result["name"] for result in report["results"]}
    assert "strong one" in (tmp_path / "report.html").read_text()
    probe = halp_probe.load_probe(tmp_path / "probes" / "strong_one")
    assert roc_auc_score(y, probe.risk(strong)) > 0.9
    selected = halp_probe.load_probe(tmp_path / "probes" / "selected_probe")
    assert selected.metadata["representation"] == "strong one"
    with pytest.raises(halp_probe.InputError, match="not a representation; where that is a feature of your own"):
        check_fits(selected, halp_probe.load_model("shapes"))


def test_a_name_that_needs_an_extra_says_which(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; import halp_probe; halp_probe.extract"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "pip install 'halp_probe[extract]'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["checkpoint_interval", "limit", "batch_tokens"])
def test_a_number_too_small_is_refused_before_anything_runs(name: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(halp_probe.InputError, match=f"`{name}` is 0; pass 1 or more"):
        extract(data / "vqa.csv", data, tmp_path / "states", **{name: 0})
    assert not (tmp_path / "states").exists()
