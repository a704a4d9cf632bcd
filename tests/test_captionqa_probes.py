"""From CaptionQA to a report: states, the task's verdicts as labels, probes, groups by category."""

from __future__ import annotations

import csv
import json
from collections import Counter

import pytest
from captionqa_data import lettered_model, write_parquet

from halp_probe import cli
from halp_probe.shards.reader import open_shards

pytestmark = pytest.mark.slow


def test_probes_of_captionqa_are_reported_by_category(tmp_path):
    write_parquet(tmp_path / "data", images=25)
    lettered_model(tmp_path / "lettered")
    asked = ["--dataset", tmp_path / "data", "--split", "natural", "--model", tmp_path / "lettered"]
    shards, probes = tmp_path / "shards", tmp_path / "probes"
    assert run("extract", "--task", "qa", *asked, "--output-dir", shards, "--max-new-tokens", "1") == 0
    labels = shards / "labels.csv"
    assert run("train-probes", "--shards", shards, "--labels", labels, "--output-dir", probes, *FAST) == 0

    rows = {row["question_id"]: row for row in csv.DictReader(labels.open(newline=""))}
    category = dict(zip(open_shards(shards).question_ids, open_shards(shards).text("category"), strict=True))
    known = Counter((category[key], row["label"]) for key, row in rows.items() if row["label"])
    (groups,) = json.loads((probes / "report.json").read_text())["groups"]
    assert groups["column"] == "category"
    found = {group["value"]: (group["n"], group["n_positive"]) for group in groups["rows"]}
    assert found == {name: (known[name, "0"] + known[name, "1"], known[name, "1"]) for name, _ in known}
    assert len(found) == 4 and "Object Existence" in (probes / "report.html").read_text()

    assert run("qa", *asked, "--output-dir", tmp_path / "out", "--max-tokens", "1") == 0
    results = json.loads((tmp_path / "out" / "natural_qa_image_local_lettered.json").read_text())
    score = {"0": {True}, "1": {False}, "": {False}}
    answered = dict(enumerate_by_key(results, rows))
    assert all(entry["is_correct"] in score[rows[key]["label"]] for key, entry in answered.items())
    assert all(entry["model_response"] == rows[key]["model_answer"] for key, entry in answered.items())
    assert len(answered) == len(rows) == 25 * 8 - 1


FAST = ["--group-columns", "category", "--bootstrap", "50"]


def run(command: str, *flags: object) -> int:
    return cli.main([command, *map(str, flags)])


def enumerate_by_key(results, rows):
    """The results' entries with the keys of the labels: in each image in the order of its questions."""
    for image_id, entries in results.items():
        keys = sorted((key for key in rows if key.startswith(f"{image_id}#")), key=lambda key: int(key.split("#")[1]))
        yield from zip(keys, entries, strict=True)
