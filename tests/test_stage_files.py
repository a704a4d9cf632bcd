"""A tree of groups read in the order that people count, Stage-A's lines written and read again, rates of Stage-B."""

from __future__ import annotations

import json
import os
import random
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage_data import FOLDERS, GROUPS, MISSION, draw, write_tree

from halp_probe.engine.images import ImageFolder, image_path
from halp_probe.errors import InputError
from halp_probe.task_files.json_lines import json_line
from halp_probe.task_files.stage_a_lines import append_line, as_json, read_files, write_lines
from halp_probe.task_files.stage_b_files import write_verdicts
from halp_probe.task_files.stage_tree import natural_key, read_tree
from halp_probe.tasks.stage_a import items_of
from halp_probe.tasks.stage_b import GroupItem, decision
from halp_probe.tasks.stage_b_metrics import GroupVerdict, metrics
from halp_probe.tasks.stage_groups import Group, GroupLine, ImageDescription, group_line

# the tree


def test_the_tree_is_read_in_the_order_that_people_count(tmp_path: Path) -> None:
    tree = read_tree(write_tree(tmp_path), MISSION)
    found = [(group.label, group.group_id, group.images) for group in tree.groups]
    assert found == [(label, name, images) for label, groups in GROUPS.items() for name, images in groups.items()]
    assert tree.failures == ()
    for group in tree.groups:
        assert group.folder == f"{MISSION}/{FOLDERS[group.label]}/{group.group_id}"
        assert all((tmp_path / group.folder / name).is_file() for name in group.images)


@given(st.lists(st.tuples(st.sampled_from(["a", "B", "图"]), st.integers(0, 120)), unique=True), st.randoms())
def test_numbers_in_names_count_by_their_value(names: list[tuple[str, int]], rng: random.Random) -> None:
    shuffled = rng.sample(names, len(names))
    found = sorted((f"{word}{number}.png" for word, number in shuffled), key=natural_key)
    assert found == [
        f"{word}{number}.png" for word, number in sorted(names, key=lambda pair: (pair[0].casefold(), pair[1]))
    ]


@given(st.lists(st.text(), max_size=5))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    found = sorted(names, key=natural_key)
    assert sorted(found) == sorted(names)
    names.reverse()
    assert sorted(names, key=natural_key) == found


def test_what_is_hidden_or_of_another_type_is_passed_over(tmp_path: Path) -> None:
    before = read_tree(write_tree(tmp_path), MISSION)
    group = tmp_path / MISSION / "审核通过" / "QC-1"
    (group / ".hidden.png").write_bytes(b"")
    (group / "Thumbs.db").write_bytes(b"")
    (group / "notes.txt").write_text("x")
    (tmp_path / MISSION / "审核通过" / ".trash").mkdir()
    (tmp_path / MISSION / ".svn").mkdir()
    (tmp_path / MISSION / "readme.txt").write_text("x")
    assert read_tree(tmp_path, MISSION) == before


def failures_of(root: Path) -> dict[str, str]:
    tree = read_tree(root, MISSION)
    assert len(tree.groups) == 4
    return {failure.question_id: failure.reason for failure in tree.failures}


def test_a_group_that_is_none_is_a_failure_and_the_others_stay(tmp_path: Path) -> None:
    write_tree(tmp_path / "root")
    passing = tmp_path / "root" / MISSION / "审核通过"
    (passing / "empty").mkdir()
    (passing / "QC-3" / "deeper").mkdir(parents=True)
    draw(passing / "QC-3" / "deeper" / "a.png", 1)
    draw(passing / "loose.png", 2)
    draw(tmp_path / "elsewhere" / "a.png", 3)
    (passing / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (passing / "half").mkdir()
    draw(passing / "half" / "1.png", 4)
    (passing / "half" / "2.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (passing / "circle").symlink_to(passing / "circle")
    found = failures_of(tmp_path / "root")
    assert set(found) == {f"pass/{name}" for name in ("empty", "QC-3", "loose.png", "linked", "half", "circle")}
    assert "no image" in found["pass/empty"]
    assert "no image" in found["pass/QC-3"]
    assert "beside the groups" in found["pass/loose.png"]
    assert "leads out" in found["pass/linked"]
    assert "leads out" in found["pass/half"]


def test_links_out_of_the_root_are_followed_where_its_owner_says_so(tmp_path: Path) -> None:
    """Also where the root itself is a link."""
    write_tree(tmp_path / "root")
    draw(tmp_path / "elsewhere" / "a.png", 3)
    passing = tmp_path / "root" / MISSION / "审核通过"
    (passing / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (passing / "half").mkdir()
    (passing / "half" / "2.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "root")
    root = ImageFolder(tmp_path / "link", allow_links=True)
    tree = read_tree(root, MISSION)
    assert not tree.failures
    groups = {group.group_id: group for group in tree.groups}
    for name in ("linked", "half"):
        (item,) = items_of(groups[name], focused=False)
        assert image_path(root, item.image) == (tmp_path / "elsewhere" / "a.png").resolve()


def test_links_that_stay_in_the_root_are_followed(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / "store").mkdir()
    draw(tmp_path / "store" / "a.png", 50)
    (tmp_path / MISSION / "审核通过" / "QC-9").symlink_to(tmp_path / "store", target_is_directory=True)
    (group,) = [group for group in read_tree(tmp_path, MISSION).groups if group.group_id == "QC-9"]
    assert (group.images, group.folder) == (("a.png",), "store")


def test_a_name_that_is_not_utf8_is_a_failure_that_can_be_written(tmp_path: Path) -> None:
    write_tree(tmp_path)
    name = "挡风板".encode("gbk") + b".png"
    folder = tmp_path / MISSION / "审核通过" / "QC-7"
    folder.mkdir()
    try:
        (folder / os.fsdecode(name)).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    found = failures_of(tmp_path)
    assert "not UTF-8" in found["pass/QC-7"]
    found["pass/QC-7"].encode()


def test_a_decomposed_folder_is_found_by_its_composed_name(tmp_path: Path) -> None:
    write_tree(tmp_path, mission=unicodedata.normalize("NFD", "Prüfung"))
    (first, *_) = read_tree(tmp_path, "Prüfung").groups
    assert first.mission == "Prüfung"
    assert (tmp_path / first.folder).is_dir()


@pytest.mark.parametrize(
    ("spoil", "mission", "says"),
    [
        (
            lambda root: None,
            "BBU接地线检查",
            f"no folder 'BBU接地线检查'; there are {MISSION}; supported missions are BBU",
        ),
        (lambda root: None, "挡风板安装检测", f"did you mean '{MISSION}'"),
        (lambda root: (root / MISSION / "待审核").mkdir(), MISSION, "'待审核', whose label is unknown"),
        (lambda root: (root / MISSION).rename(root / "other"), MISSION, "there are other"),
    ],
)
def test_a_tree_of_another_shape_is_refused(tmp_path: Path, spoil: Any, mission: str, says: str) -> None:
    write_tree(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=re.escape(says)):
        read_tree(tmp_path, mission)


def test_roots_that_are_none_are_refused(tmp_path: Path) -> None:
    write_tree(tmp_path / "root")
    with pytest.raises(InputError, match="not a folder; pass the folder"):
        read_tree(tmp_path / "nowhere", MISSION)
    with pytest.raises(InputError, match="the mission's own folder"):
        read_tree(tmp_path / "root" / MISSION, MISSION)
    (tmp_path / "bare" / MISSION / "审核通过" / "QC-1").mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds no group.*pass/QC-1: has no image"):
        read_tree(tmp_path / "bare", MISSION)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / MISSION).symlink_to(tmp_path / "root" / MISSION)
    with pytest.raises(InputError, match="leads out"):
        read_tree(tmp_path / "linked", MISSION)


# Stage-A's lines

GOOD = ImageDescription(summary="BBU设备×1", date="2026-01-02T03:04:05+00:00")
BAD = ImageDescription(summary=None, problem="has 2 lines, not one", reply="a\nb", date="2026-01-02T03:04:07+00:00")
GROUP = Group(
    mission=MISSION, label="fail", group_id="QC-2", images=("a.png", "b.png"), folder=f"{MISSION}/审核不通过/QC-2"
)


def test_the_line_of_a_complete_group_to_the_byte(tmp_path: Path) -> None:
    line = group_line(GROUP, [GOOD, ImageDescription(summary="挡风板×2", date="2026-01-02T03:04:06+00:00")])
    assert line is not None
    write_lines(tmp_path / "a.jsonl", [line], "图片")
    assert (tmp_path / "a.jsonl").read_text() == (
        '{"group_id": "QC-2", "mission": "挡风板安装检查", "label": "fail", "images": ["a.png", "b.png"], '
        '"per_image": {"图片_1": "BBU设备×1", "图片_2": "挡风板×2"}, "timestamp": "2026-01-02T03:04:06+00:00", '
        '"stage_a_complete": true}\n'
    )
    append_line(tmp_path / "a.jsonl", line, "image")
    assert json.loads((tmp_path / "a.jsonl").read_text().split("\n")[1])["per_image"] == {
        "image_1": "BBU设备×1",
        "image_2": "挡风板×2",
    }


def test_the_line_of_a_group_with_a_bad_image_has_the_problem_and_the_reply() -> None:
    line = group_line(GROUP, [BAD, GOOD])
    assert line is not None
    record = as_json(line, "图片")
    assert record["per_image"] == {"图片_2": "BBU设备×1"}
    assert record["problems"] == {"图片_1": {"problem": "has 2 lines, not one", "reply": "a\nb"}}
    assert record["stage_a_complete"] is False
    assert record["timestamp"] == "2026-01-02T03:04:07+00:00"
    failed = group_line(GROUP, [ImageDescription(summary=None, problem="image: a.png is empty"), GOOD])
    assert failed is not None
    assert as_json(failed, "图片")["problems"]["图片_1"] == {"problem": "image: a.png is empty", "reply": None}
    assert group_line(GROUP, [GOOD, None]) is None


ONE_LINE = st.text(min_size=1).filter(lambda text: len(text.splitlines()) == 1 and text.strip() and text.isprintable())


@given(
    st.lists(st.lists(st.none() | ONE_LINE, min_size=1, max_size=4), min_size=1, max_size=4),
    st.sampled_from(["图片", "image"]),
)
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, groups: Any, style: str) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    lines = [
        GroupLine(
            group_id=f"QC-{number}",
            mission=MISSION,
            label="pass",
            images=tuple(map(str, range(len(texts)))),
            descriptions=tuple(
                ImageDescription(summary=text, problem="" if text else "bad", reply=None if text else "x\u2028y\n")
                for text in texts
            ),
            timestamp=None,
        )
        for number, texts in enumerate(groups)
    ]
    write_lines(path, lines, style)
    assert len(path.read_text().splitlines()) == len(lines)  # also for readers that break lines at U+2028
    for line, read in zip(lines, read_files([path]), strict=True):
        assert (read.group_id, read.mission, read.label) == (line.group_id, MISSION, "pass")
        assert read.summaries == tuple(image.summary for image in line.descriptions if image.summary is not None)
        assert (read.lacking == "") == line.complete


def record(**fields: Any) -> dict[str, Any]:
    """A line as other code writes it, without timestamp and stage_a_complete."""
    told = {"group_id": "QC-1", "mission": MISSION, "label": "pass", "images": ["a", "b"]}
    return {**told, "per_image": {"image_1": "甲", "image_2": "乙"}, **fields}


def read(tmp_path: Path, *records: Any) -> Any:
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in records))
    return read_files([path])


@pytest.mark.parametrize(
    ("fields", "label", "summaries"),
    [
        ({}, "pass", ("甲", "乙")),
        ({"label": "fail"}, "fail", ("甲", "乙")),
        ({"label": "审核通过"}, "pass", ("甲", "乙")),
        ({"label": "审核不通过"}, "fail", ("甲", "乙")),
        ({"per_image": {"图片_2": "乙", "图片_1": "甲"}}, "pass", ("甲", "乙")),
        ({"per_image": {f"image_{n}": f"第{n}" for n in range(1, 13)}, "images": list("abcdefghijkl")}, "pass",
         tuple(f"第{n}" for n in range(1, 13))),
        ({"images": []}, "pass", ("甲", "乙")),
        ({"timestamp": None, "stage_a_complete": True}, "pass", ("甲", "乙")),
        ({"raw_texts": ["x"], "timestamp": "2025-01-18T10:30:00.000000Z"}, "pass", ("甲", "乙")),
    ],
)  # fmt: skip
def test_lines_of_other_code_are_read(tmp_path: Path, fields: Any, label: str, summaries: Any) -> None:
    (group,) = read(tmp_path, record(**fields))
    assert (group.label, group.summaries, group.lacking) == (label, summaries, "")


def test_a_byte_order_mark_and_blank_lines_are_no_harm(tmp_path: Path) -> None:
    assert (
        len(read(tmp_path, "\ufeff" + json.dumps(record()), "", "  ", json.dumps(record(group_id="QC-2")) + "\r")) == 2
    )


@pytest.mark.parametrize(
    ("fields", "lacking"),
    [
        ({"per_image": {"image_1": "甲"}}, "lacks a summary of image 2 of 2"),
        ({"per_image": {"image_2": "乙"}, "images": []}, "lacks a summary of image 1 of 2"),
        ({"per_image": {}}, "image 1, 2 of 2"),
        ({"per_image": {}, "images": []}, "has no image"),
        ({"stage_a_complete": False}, "not complete"),
    ],
)
def test_an_incomplete_group_is_read_as_such(tmp_path: Path, fields: Any, lacking: str) -> None:
    (group,) = read(tmp_path, record(**fields))
    assert lacking in group.lacking


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "Expecting"),
        ("[]", "is not a JSON object"),
        ("[" * 100_000, "recursion"),
        ('{"group_id": "a", "group_id": "b"}', "a name occurs twice among group_id"),
        (record(group_id=""), "group_id is ''"),
        (record(group_id=7), "group_id is 7"),
        (record(mission="x"), "no mission 'x'"),
        (record(mission="BBU安装方式检查(正装)"), "did you mean 'BBU安装方式检查（正装）'"),
        (record(label="maybe"), "label 'maybe' is none of pass, fail, 审核不通过, 审核通过"),
        (record(label=["pass"]), "label ['pass'] is none"),
        (record(label=None), "label None is none"),
        (record(images="a"), "images is not a list"),
        (record(per_image=None), "per_image is not a JSON object"),
        (record(per_image={"picture": "甲"}), "the key 'picture', not 图片_1 or image_1"),
        (record(per_image={"image_0": "甲"}), "the key 'image_0'"),
        (record(per_image={"image_1": "甲", "图片_1": "乙"}), "image 1 twice"),
        (record(per_image={"image_1": "甲", "image_3": "乙"}), "has an image 3, images only 2"),
        (record(per_image={"image_1": " "}), "summary of image_1 is not one line"),
        (record(per_image={"image_1": "a\nb"}), "summary of image_1 is not one line"),
        (record(per_image={"image_1": 3}), "summary of image_1 is not one line"),
        (
            record(per_image={"image_1": "甲"}, stage_a_complete=True),
            "says stage_a_complete, but lacks a summary of image 2",
        ),
        (record(group_id="first"), "'first' occurs already"),
    ],
)
def test_a_wrong_line_is_named_with_its_file(tmp_path: Path, line: Any, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'x.jsonl'}, line 3: ")) as error:
        read(tmp_path, record(group_id="first"), "", line)
    assert says in str(error.value)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "gbk.jsonl").write_bytes("挡风板".encode("gbk"))
    for name, says in (("none.jsonl", "cannot be read"), ("empty.jsonl", "holds no group"), ("gbk.jsonl", "not UTF-8")):
        with pytest.raises(InputError, match=says):
            read_files([tmp_path / name])


def test_one_group_id_under_both_labels_is_two_groups_and_in_two_files_once_only(tmp_path: Path) -> None:
    assert len(read(tmp_path, record(), record(label="fail"), record(mission="BBU接地线检查"))) == 3
    with pytest.raises(InputError, match=r"x\.jsonl, line 1: group 'QC-1' occurs already"):
        read_files([tmp_path / "x.jsonl", tmp_path / "x.jsonl"])


@given(st.dictionaries(st.text(), st.text() | st.none() | st.integers()))
def test_a_line_is_json_that_nothing_breaks(told: dict[str, Any]) -> None:
    told = json.loads(json.dumps(told).encode("utf-8", "ignore"))
    line = json_line(told)
    assert json.loads(line) == told
    assert line.endswith("\n")
    assert len(line.splitlines()) == 1


# Stage-B's rates


def judged(label: str, reply: str, mission: str = MISSION, name: str = "QC-1") -> GroupVerdict:
    return GroupVerdict(
        item=GroupItem(mission=mission, label=label, group_id=name, summaries=("x",)),
        decision=decision(reply),
        reply=reply,
    )


PASSES, FAILS, NEITHER = "通过\n理由: 全", "不通过\n理由: 缺", "也许"


def test_rates_by_hand() -> None:
    said = [judged("fail", PASSES)] * 2 + [judged("fail", FAILS)] * 3 + [judged("fail", NEITHER)]
    said += [judged("pass", PASSES)] * 4 + [judged("pass", FAILS)] + [judged("pass", NEITHER)] * 3
    found = metrics(said, [MISSION] * 5)
    assert found == {
        "groups": 19,
        "not_answered": 5,
        "answered": 14,
        "valid": 10,
        "invalid": 4,
        "accuracy_of_valid": {"value": 0.7, "count": 7, "of": 10},
        "accuracy_invalid_as_wrong": {"value": 0.5, "count": 7, "of": 14},
        "false_pass_rate": {"value": 0.4, "count": 2, "of": 5},
        "false_fail_rate": {"value": 0.2, "count": 1, "of": 5},
        "verdicts_by_label": {
            "pass": {"pass": 4, "fail": 1, "invalid": 3},
            "fail": {"pass": 2, "fail": 3, "invalid": 1},
        },
    }


def test_a_rate_of_nothing_is_null_with_the_reason() -> None:
    found = metrics([judged("pass", NEITHER)], [])
    assert found["accuracy_of_valid"] == {"value": None, "count": 0, "of": 0, "reason": "no valid verdict"}
    assert found["accuracy_invalid_as_wrong"]["value"] == 0.0
    assert found["false_pass_rate"]["reason"] == "no valid verdict on a group labelled fail"
    assert found["false_fail_rate"]["reason"] == "no valid verdict on a group labelled pass"
    assert metrics([], [])["accuracy_invalid_as_wrong"]["value"] is None


CASES = st.lists(
    st.builds(judged, st.sampled_from(["pass", "fail"]), st.sampled_from([PASSES, FAILS, NEITHER]),
              st.sampled_from(["BBU接地线检查", MISSION])), max_size=30,
)  # fmt: skip


@given(CASES, st.lists(st.sampled_from(["BBU接地线检查", MISSION]), max_size=4))
def test_rates_of_the_missions_add_up(said: list[GroupVerdict], missing: list[str]) -> None:
    found = metrics(said, missing)
    labels = {each.item.mission for each in said} | set(missing)
    assert ("missions" in found) == (len(labels) > 1)
    for name in ("accuracy_of_valid", "accuracy_invalid_as_wrong", "false_pass_rate", "false_fail_rate"):
        for part in ("count", "of"):
            total = sum(each[name][part] for each in found.get("missions", {"": found}).values())
            assert total == found[name][part]
    wrong = [each for each in said if each.item.label == "fail" and each.decision.verdict == "pass"]
    assert found["false_pass_rate"]["count"] == len(wrong)
    json.dumps(found, allow_nan=False)


def test_the_lines_of_verdicts_to_the_byte(tmp_path: Path) -> None:
    write_verdicts(tmp_path / "b.jsonl", [judged("fail", PASSES), judged("pass", NEITHER, name="QC-2")])
    assert (tmp_path / "b.jsonl").read_text() == (
        '{"group_id": "QC-1", "mission": "挡风板安装检查", "label": "fail", "verdict": "pass", "reason": "全", '
        '"valid": true, "problem": "", "reply": "通过\\n理由: 全"}\n'
        '{"group_id": "QC-2", "mission": "挡风板安装检查", "label": "pass", "verdict": null, "reason": "", '
        '"valid": false, "problem": "has 1 line, not two", "reply": "也许"}\n'
    )
