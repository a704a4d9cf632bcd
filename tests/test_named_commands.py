"""`extract.py --dataset` and `halp-probe vqa --dataset`: a benchmark in place of a table, judged by its own rule."""

from __future__ import annotations

import csv
import json

import pytest
from captionqa_data import write_parquet
from named_data import draw, write_haloquest, write_mme, write_pope

from halp_probe.cli import main
from halp_probe.shards.reader import open_shards

MODEL = ["--model", "shapes", "--device", "cpu"]


def extract(output, *flags) -> list[str]:
    return ["extract", *flags, "--output-dir", str(output), *MODEL, "--max-new-tokens", "8"]


def test_extract_stores_what_the_benchmark_says(tmp_path, capsys):
    write_pope(tmp_path, scenes=2, parts=["random"], pictures=True)
    flags = ["--dataset", "pope:random", "--data-root", str(tmp_path)]
    assert main(extract(tmp_path / "out", *flags)) == 0
    shards = open_shards(tmp_path / "out")
    assert set(shards.text("dataset")) == {"pope"} and set(shards.text("category")) == {"random"}
    assert all(unit.startswith("picture COCO") for unit in shards.text("fold_unit"))
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert (record["benchmark"], record["benchmark_parts"]) == ("pope", ["random"])
    assert record["benchmark_questions"] == len(shards.question_ids)
    assert "this is not the whole of POPE" in capsys.readouterr().err


def test_pictures_may_lie_elsewhere(tmp_path):
    write_pope(tmp_path / "a", scenes=2, parts=["random"])
    write_pope(tmp_path / "b", scenes=2, parts=["random"], pictures=True)
    flags = ["--dataset", "pope:random", "--data-root", str(tmp_path / "a")]
    assert main(extract(tmp_path / "out", *flags, "--images-dir", str(tmp_path / "b/val2014"))) == 0


def test_a_missing_picture_is_a_failure_of_its_rows(tmp_path):
    write_haloquest(tmp_path)
    draw(tmp_path / "images" / "b.png", 1)
    assert main(extract(tmp_path / "out", "--dataset", "haloquest", "--data-root", str(tmp_path))) == 0
    with (tmp_path / "out/failures.csv").open() as file:
        failed = {row["question_id"]: row for row in csv.DictReader(file)}
    assert set(failed) == {"haloquest-eval-0", "haloquest-eval-1"}
    assert all(row["stage"] == "image" for row in failed.values())


def test_captionqa_by_name_and_as_a_task_share_a_flag(tmp_path):
    write_parquet(tmp_path / "data", images=1)
    root = str(tmp_path / "data")
    assert main(extract(tmp_path / "named", "--dataset", "captionqa:natural", "--data-root", root)) == 0
    assert main(extract(tmp_path / "task", "--task", "qa", "--dataset", root, "--split", "natural", "--seed", "0")) == 0
    named, task = (open_shards(tmp_path / name) for name in ("named", "task"))
    assert dict(zip(named.question_ids, named.text("question"), strict=True)) == {
        f"captionqa-{key}": text for key, text in zip(task.question_ids, task.text("question"), strict=True)
    }


def test_vqa_judges_by_the_benchmarks_rule(tmp_path):
    write_mme(tmp_path)
    flags = ["--dataset", "mme:existence", "--data-root", str(tmp_path), "--output-dir", str(tmp_path / "out")]
    assert main(["vqa", *flags, *MODEL]) == 0
    with (tmp_path / "out/vqa_shapes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 and {row["rule"] for row in rows} == {"yes_no"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--dataset", "pope"], "--data-root DIR is needed"),
        (["--dataset", "pop", "--data-root", "."], "--dataset 'pop' is no benchmark"),
        (
            ["--dataset", "pope", "--data-root", ".", "--vqa-dataset", "a.csv"],
            "--vqa-dataset does not go with --dataset",
        ),
        (["--dataset", "pope", "--data-root", ".", "--column", "a=b"], "--column goes with --dataset lmms-eval"),
        (["--dataset", "lmms-eval:x/y"], "needs its split"),
    ],
)
def test_flags_that_do_not_go_together(tmp_path, capsys, flags, said):
    assert main(extract(tmp_path / "out", *flags)) == 2
    assert said in capsys.readouterr().err
