"""`halp-probe study`: one command from a benchmark's files to the report, killed and run again at any point."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import pytest
from command_process import start_command
from named_data import read_lines, write_amber, write_pope, write_repope

from halp_probe.cli import main
from halp_probe.shards.reader import open_shards

pytestmark = pytest.mark.slow
FLAGS = ["--model", "shapes", "--device", "cpu", "--max-new-tokens", "8", "--bootstrap", "50"]


def study(root: Path, output: Path, *more: str, dataset: str = "repope:random") -> list[str]:
    return ["study", "--dataset", dataset, "--data-root", str(root), "--output-dir", str(output), *FLAGS, *more]


@pytest.fixture(scope="module")
def repope(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("repope")
    write_pope(root, scenes=60, parts=["random"], pictures=True)
    write_repope(root, part="random")
    return root


@pytest.fixture(scope="module")
def done(repope, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("studies") / "whole"
    assert main(study(repope, output)) == 0
    return output


def results(output: Path) -> tuple[dict[str, str], str, list[str]]:
    """What two runs must agree on: labels, results, the row for a leaderboard."""
    with (output / "labels.csv").open() as file:
        labels = {row["question_id"]: row["label"] for row in csv.DictReader(file)}
    return labels, (output / "report/results.csv").read_text(), (output / "leaderboard.csv").read_text().splitlines()


def test_one_command_from_files_to_the_report(repope, done):
    labels, _, (header, row) = results(done)
    found = dict(zip(header.split(","), row.split(","), strict=True))
    truths = {
        (each["image"], each["text"]): each["label"]
        for each in read_lines(repope / "annotations/coco_repope_random.json")
    }
    shards = open_shards(done / "shards")
    for question_id, image, question, answer in zip(
        shards.question_ids, *(shards.text(name) for name in ("image_id", "question", "answer")), strict=True
    ):
        truth = truths.get((image, question))
        expected = "" if truth is None else str(int(answer.strip(" .").lower() != truth))
        assert labels[question_id] == expected, "the ambiguous ones are unknown"
    assert found["split_sha256"] == found["trained_split_sha256"] and found["rule"] == "yes_no"
    assert 0.5 < float(found["auroc"]) < 1
    report = json.loads((done / "report/report.json").read_text())
    assert report["made"]["fixed_split"]["sha256"] == found["split_sha256"]
    record = json.loads((done / "shards/run.json").read_text())
    assert record["benchmark_split"] == found["split_sha256"] and record["dataset"] == "repope:random"
    with (done / "report/oof.csv").open() as file:
        folds = {row["question_id"]: row["fold"] for row in csv.DictReader(file)}
    stored = dict(zip(shards.question_ids, shards.text("fold"), strict=True))
    assert folds == {question_id: stored[question_id] for question_id in folds}


def test_what_is_done_is_not_done_again(repope, done, capsys):
    files = [done / "labels.csv", done / "report/report.html", *done.glob("shards/*.h5")]
    before = [path.stat().st_mtime_ns for path in files]
    assert main(study(repope, done)) == 0
    out = capsys.readouterr().out
    assert all(f"{step}: done already" in out for step in ("extract", "label", "train"))
    assert [path.stat().st_mtime_ns for path in files] == before


def test_an_edited_label_is_taken_and_trained_on(repope, tmp_path, capsys):
    output = tmp_path / "study"
    assert main(study(repope, output)) == 0
    text = (output / "labels.csv").read_text().splitlines()
    known = next(place for place, line in enumerate(text) if ",0,yes_no" in line)
    text[known] = text[known].replace(",0,", ",1,", 1)
    (output / "labels.csv").write_text("\n".join(text) + "\n")
    trained = (output / "report/results.csv").read_text()
    capsys.readouterr()
    assert main(study(repope, output)) == 0
    out = capsys.readouterr().out
    assert "edited since, and taken as it is" in out and "train: done already" not in out
    assert (output / "report/results.csv").read_text() != trained
    assert main(study(repope, output, "--rule", "exact")) == 2  # would throw the edit away
    assert "was edited" in capsys.readouterr().err


def test_another_design_trains_alone(repope, tmp_path, capsys):
    output = tmp_path / "study"
    assert main(study(repope, output)) == 0
    capsys.readouterr()
    assert main(study(repope, output, "--probe", "ridge")) == 0
    out = capsys.readouterr().out
    assert "extract: done already" in out and "label: done already" in out and "train: done already" not in out


def test_changed_truths_are_asked_anew_and_new_questions_added(tmp_path, capsys):
    root, output = tmp_path / "pope", tmp_path / "study"
    write_pope(root, scenes=40, parts=["random"], pictures=True)
    assert main(study(root, output, dataset="pope")) == 0
    write_pope(root, scenes=40, parts=["popular"], pictures=True)
    assert main(study(root, output, dataset="pope")) == 0
    count = len(list(read_lines(root / "output/coco/coco_pope_random.json")))
    assert f"{count} questions captured, {count} were there already" in capsys.readouterr().out
    path = root / "output/coco/coco_pope_random.json"
    rows = list(read_lines(path))
    rows[0]["label"] = "no" if rows[0]["label"] == "yes" else "yes"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert main(study(root, output, dataset="pope")) == 0
    assert "the questions have changed" in capsys.readouterr().out
    assert open_shards(output / "shards").text("ground_truth_answer")[0] == rows[0]["label"]
    assert len(list(output.glob("shards-of-*/*.h5"))) > 0, "what was captured before is kept"


def test_pictures_that_come_later_are_captured(tmp_path, capsys):
    root, output = tmp_path / "pope", tmp_path / "study"
    write_pope(root, scenes=40, parts=["random"], pictures=True)
    late = sorted((root / "val2014").iterdir())[7]
    content = late.read_bytes()
    late.unlink()
    assert main(study(root, output, dataset="pope:random")) == 0
    assert "failed (see" in capsys.readouterr().out
    late.write_bytes(content)
    assert main(study(root, output, dataset="pope:random")) == 0
    assert late.name in open_shards(output / "shards").text("image_id")


@pytest.mark.parametrize("seen", ["study.json", "shards/*.h5", "labels.csv", "report/results.csv"])
def test_killed_and_run_again_it_ends_the_same(repope, done, tmp_path, seen):
    output = tmp_path / "study"
    process = start_command(study(repope, output, "--checkpoint-interval", "100"), tmp_path / "out.txt")
    deadline = time.monotonic() + 120
    while process.is_alive() and not list(output.glob(seen)) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    assert main(study(repope, output, "--checkpoint-interval", "100")) == 0
    assert results(output) == results(done)


def test_amber_is_reported_with_its_leak(tmp_path, capsys):
    root, output = tmp_path / "amber", tmp_path / "study"
    write_amber(root, scenes=60, pictures=True)
    assert main(study(root, output, dataset="amber")) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "AMBER: its `type` gives the ground truth away" in printed
    assert "lookup of kind" in printed and "lookup of published type" not in printed
    page = " ".join((output / "report/report.html").read_text().split())
    assert "gives the ground truth away" in page
    more = study(root, output, "--group-columns", "published_type", dataset="amber")
    assert main(more) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "serious: `published_type` gives the ground truth of AMBER away" in printed


def test_a_table_of_ones_own(tmp_path, capsys):
    root = tmp_path / "data"
    assert main(["shapes", "--output-dir", str(root), "--scenes", "60", "--seed", "0"]) == 0
    flags = ["--vqa-dataset", str(root / "vqa.csv"), "--images-dir", str(root / "images")]
    more = ["--group-columns", "kind", "--rule", "exact"]
    assert main(["study", *flags, "--output-dir", str(tmp_path / "study"), *FLAGS, *more]) == 0
    assert "leaderboard.csv" in capsys.readouterr().out
    with (tmp_path / "study/labels.csv").open() as file:
        assert {row["rule"] for row in csv.DictReader(file)} == {"exact"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--output-dir", "out"], "--dataset NAME or --vqa-dataset FILE is needed"),
        (["--output-dir", "out", "--dataset", "pope"], "--data-root DIR is needed"),
        (["--output-dir", "out", "--dataset", "pope", "--data-root", "nowhere"], "nowhere is not a folder"),
        (["--output-dir", "out", "--dataset", "pope", "--vqa-dataset", "a.csv"], "does not go with --dataset"),
    ],
)
def test_flags_that_do_not_do(tmp_path, monkeypatch, capsys, flags, said):
    monkeypatch.chdir(tmp_path)
    assert main(["study", *flags]) == 2
    assert said in capsys.readouterr().err
