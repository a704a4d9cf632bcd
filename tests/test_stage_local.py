"""Both stages by a model in this process, and their prompts through extraction."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_data import ATTRIBUTES, columns
from stage_data import GROUPS, MISSION, write_tree
from tiny_models import tiny_model

from halp_probe.cli import main
from halp_probe.commands.label import label_into
from halp_probe.commands.stage_a import USUAL
from halp_probe.shards.reader import open_shards
from halp_probe.shards.writer import write_shard
from halp_probe.tasks.stage_a import STAGE_A
from halp_probe.tasks.stage_b import STAGE_B, GroupItem

pytestmark = pytest.mark.slow

SMALL = ["--model", "shapes", "--max-pixels", "4096", "--max-new-tokens", "3"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("tree"))


def without_times(path: Path) -> list[dict[str, Any]]:
    return [{**json.loads(row), "timestamp": None} for row in path.read_text().splitlines()]


def stage_a_file(path: Path) -> Path:
    """Three groups, one with two images."""
    groups = [("A", "pass", ["挡风板×1"]), ("B", "fail", ["BBU设备×1", "标签×2"]), ("A", "fail", ["无关图片"])]
    rows = [
        {
            "group_id": group,
            "mission": MISSION,
            "label": label,
            "per_image": {f"图片_{n + 1}": t for n, t in enumerate(said)},
        }
        for group, label, said in groups
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_batches_of_several_groups_give_the_lines_of_one_image_at_a_time(root: Path, tmp_path: Path) -> None:
    """Of a model that says something, if not this: what it says is cut off, and so in the line's problems."""
    lines = {}
    for size in ("1", "8"):
        out = tmp_path / size
        flags = ["--data-root", str(root), "--mission", MISSION, "--output-dir", str(out), "--batch-size", size]
        assert main(["stage-a", *flags, *SMALL]) == 0
        lines[size] = without_times(out / f"{MISSION}_stage_a.jsonl")
    assert lines["1"] == lines["8"]
    found = [(line["label"], line["group_id"], tuple(line["images"])) for line in lines["8"]]
    assert found == [(label, name, images) for label, groups in GROUPS.items() for name, images in groups.items()]
    replies = [problem for line in lines["8"] for problem in line["problems"].values()]
    assert len(replies) == 11
    assert {problem["problem"] for problem in replies} == {"was cut off at the token limit"}
    assert all(problem["reply"] for problem in replies)


def labels(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        return {row["question_id"]: row for row in csv.DictReader(file)}


def test_extraction_of_stage_a_has_the_images_prompts_and_no_label(root: Path, tmp_path: Path) -> None:
    flags = ["--task", "stage-a", "--data-root", str(root), "--mission", MISSION, "--output-dir", str(tmp_path)]
    assert main(["extract", *flags, *SMALL]) == 0
    shards = open_shards(tmp_path)
    assert len(shards.question_ids) == 11
    assert set(shards.text("mission")) == {MISSION}
    items = [STAGE_A.item(text) for text in shards.text("task_item")]
    assert [item.key for item in items] == list(shards.question_ids)
    assert [STAGE_A.prompt(item).question for item in items] == list(shards.text("question"))
    rows = labels(tmp_path)
    assert {row["label"] for row in rows.values()} == {""}
    assert {row["rule"] for row in rows.values()} == {"stage-a"}


def test_stage_b_asks_a_loaded_model_with_text_alone(tmp_path: Path) -> None:
    path = stage_a_file(tmp_path / "x_stage_a.jsonl")
    assert main(["stage-b", "--stage-a", str(path), "--output-dir", str(tmp_path / "out"), *SMALL]) == 0
    lines = without_times(tmp_path / "out" / "x_stage_b.jsonl")
    assert [(line["label"], line["group_id"], line["verdict"]) for line in lines] == [
        ("pass", "A", None),
        ("fail", "B", None),
        ("fail", "A", None),
    ]
    metrics = json.loads((tmp_path / "out" / "x_stage_b_metrics.json").read_text())
    assert (metrics["groups"], metrics["invalid"], metrics["false_pass_rate"]["value"]) == (3, 3, None)


def test_extraction_of_stage_b_has_states_at_the_query_token(tmp_path: Path) -> None:
    path = stage_a_file(tmp_path / "x_stage_a.jsonl")
    flags = ["--task", "stage-b", "--stage-a", str(path), "--output-dir", str(tmp_path / "out")]
    assert main(["extract", *flags, *SMALL]) == 0
    shards = open_shards(tmp_path / "out")
    items = [STAGE_B.item(text) for text in shards.text("task_item")]
    assert [item.key for item in items] == list(shards.question_ids)
    assert dict(zip(shards.question_ids, shards.text("ground_truth_answer"), strict=True)) == {
        f"{MISSION}/pass/A": "通过",
        f"{MISSION}/fail/A": "不通过",
        f"{MISSION}/fail/B": "不通过",
    }
    assert shards.vectors("query_token_representation/layer_0").shape[0] == 3
    assert {row["rule"] for row in labels(tmp_path / "out").values()} == {"stage-b"}


def test_the_usual_largest_area_is_left_out_where_the_processor_decides(root: Path, tmp_path: Path) -> None:
    loaded = tiny_model("llava")
    loaded.model.save_pretrained(tmp_path / "llava")
    loaded.checkpoint.processor.save_pretrained(tmp_path / "llava")
    flags = ["--data-root", str(root), "--mission", MISSION, "--output-dir", str(tmp_path / "out")]
    flags += ["--model", str(tmp_path / "llava"), "--max-new-tokens", "3"]
    assert main(["stage-a", *flags, "--max-pixels", "4096"]) == 2
    assert main(["stage-a", *flags]) in (0, 1)  # so small a model has no room for the prompt
    log = next((tmp_path / "out").glob("*.replies.jsonl"))
    settings = json.loads(log.read_text().splitlines()[0])["settings"]
    assert settings["max_pixels"] is None


def test_the_usual_largest_area_of_stage_a_is_kept_where_the_family_takes_one(root: Path, tmp_path: Path) -> None:
    flags = ["--data-root", str(root), "--mission", MISSION, "--output-dir", str(tmp_path), "--model", "shapes"]
    assert main(["stage-a", *flags, "--max-new-tokens", "3"]) in (0, 1)  # its context may be too short for such images
    log = next(tmp_path.glob("*.replies.jsonl"))
    assert json.loads(log.read_text().splitlines()[0])["settings"]["max_pixels"] == USUAL.max_pixels


def test_an_extraction_has_the_task_s_own_limits(root: Path, tmp_path: Path) -> None:
    stage_b = ["--task", "stage-b", "--stage-a", str(stage_a_file(tmp_path / "a.jsonl"))]
    stage_a = ["--task", "stage-a", "--data-root", str(root), "--mission", MISSION]
    for flags, tokens, area in ((stage_b, 256, None), (stage_a, 1024, USUAL.max_pixels)):
        out = tmp_path / flags[1]
        assert main(["extract", *flags, "--model", "shapes", "--output-dir", str(out)]) in (0, 1)
        settings = json.loads((out / "run.json").read_text())["settings"]
        assert (settings["max_new_tokens"], settings["max_pixels"]) == (tokens, area)


def test_a_verdict_that_reaches_the_limit_of_tokens_has_no_label(tmp_path: Path) -> None:
    """As in stage-b, whose metrics count it as invalid."""
    ids = ["short", "at the limit"]
    samples = [
        STAGE_B.sample(GroupItem(mission=MISSION, label="pass", group_id=name, summaries=("挡风板×1",))) for name in ids
    ]
    data = columns(ids)
    data.texts["task_item"] = [sample.extra["task_item"] for sample in samples]
    data.texts["answer"] = ["通过\n理由: 挡风板按要求"] * 2
    data.numbers["answer_tokens"] = np.array([7, 8], np.int32)
    attributes = {**ATTRIBUTES, "task": "stage-b", "max_new_tokens": 8}
    write_shard(tmp_path / "m_embeddings_part_001.h5", data, attributes)
    label_into(tmp_path / "labels.csv", tmp_path)
    rows = labels(tmp_path)
    assert (rows["short"]["label"], rows["at the limit"]["label"]) == ("0", "")
    assert rows["at the limit"]["reason"] == "was cut off at the token limit"
