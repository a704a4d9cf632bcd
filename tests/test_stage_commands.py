"""`halp-probe stage-a` and `stage-b` from a tree of pictures to the rates, answered by a server of this machine."""

from __future__ import annotations

import base64
import io
import json
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from judge_server import Asked, completion, serving
from PIL import Image
from stage_data import FOLDERS, GROUPS, MISSION, colour, draw, write_tree

from halp_probe.cli import main
from halp_probe.tasks.missions import mission

MAIN = "import sys; from halp_probe.cli import main; sys.exit(main())"
FILES = [(label, group, name) for label, groups in GROUPS.items() for group, names in groups.items() for name in names]
GOOD = {seed: f"挡风板×{seed}，标签×1" for seed in range(1, len(FILES) + 1)}  # picture -> what is said of it


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def shown(asked: Asked) -> tuple[int, str]:
    """Which picture of `stage_data` a request shows, by its background, and the text beside it."""
    picture, text = asked.body["messages"][-1]["content"]
    image = Image.open(io.BytesIO(base64.b64decode(picture["image_url"]["url"].partition(",")[2])))
    corner = image.getpixel((image.width - 1, image.height - 1))
    assert isinstance(corner, tuple)
    near = min(GOOD, key=lambda seed: sum(abs(a - b) for a, b in zip(corner, colour(seed), strict=True)))
    return near, text["text"]


@dataclass
class Inspector:
    """Says of each picture what `says` has for it, first and when asked again, else what GOOD has."""

    says: dict[int, list[str]] = field(default_factory=dict)
    before: Callable[[int], None] = lambda n: None
    prompts: list[tuple[int, str]] = field(default_factory=list)

    def __call__(self, asked: Asked, n: int) -> Any:
        self.before(n)
        seed, text = shown(asked)
        self.prompts.append((seed, text))
        replies = [*self.says.get(seed, []), GOOD[seed], GOOD[seed]]
        return completion(replies["上一次的回答" in text])


def stage_a(url: str, root: Path, out: Path, *flags: str) -> list[str]:
    told = ["--data-root", str(root), "--mission", MISSION, "--output-dir", str(out), "--model", "inspector"]
    return ["stage-a", *told, "--engine", "server", "--base-url", url, *flags]


def dates(out: Path, stem: str = f"{MISSION}_stage_a") -> dict[str, str]:
    """Key -> when its last reply came, straight from the log."""
    rows = [json.loads(row) for row in (out / f"{stem}.replies.jsonl").read_text().split("\n")[1:-1]]
    return {row["key"]: row["date"] for row in rows if "text" in row}


def expected(out: Path, problems: dict[int, tuple[str, str | None]] | None = None, style: str = "图片") -> str:
    """The file to the byte, from what the inspector says."""
    came, seed, lines = dates(out), 0, ""
    for label, groups in GROUPS.items():
        for group, names in groups.items():
            good, bad = {}, {}
            for index, _ in enumerate(names, start=1):
                seed += 1
                if seed in (problems or {}):
                    bad[f"{style}_{index}"] = dict(zip(("problem", "reply"), (problems or {})[seed], strict=True))
                else:
                    good[f"{style}_{index}"] = GOOD[seed]
            known = [came[key] for name in names if (key := f"{label}/{group}/{name}") in came]
            record = {"group_id": group, "mission": MISSION, "label": label, "images": list(names), "per_image": good}
            record |= {"timestamp": max(known) if known else None, "stage_a_complete": not bad}
            record |= {"problems": bad} if bad else {}
            lines += json.dumps(record, ensure_ascii=False) + "\n"
    return lines


def lines_of(out: Path) -> str:
    return (out / f"{MISSION}_stage_a.jsonl").read_text()


def without_times(text: str) -> list[dict[str, Any]]:
    return [{**json.loads(row), "timestamp": None} for row in text.splitlines()]


@pytest.mark.parametrize("style", ["图片", "image"])
def test_the_lines_of_a_tree_to_the_byte(tmp_path: Path, style: str, capsys: pytest.CaptureFixture[str]) -> None:
    root, inspector = write_tree(tmp_path / "data"), Inspector()
    with serving(inspector) as server:
        assert main(stage_a(server.url, root, tmp_path / "out", "--image-keys", style)) == 0
    assert lines_of(tmp_path / "out") == expected(tmp_path / "out", style=style)
    assert sorted(seed for seed, _ in inspector.prompts) == sorted(GOOD)
    assert all(mission(MISSION).focus in text for _, text in inspector.prompts)
    assert {asked.body["max_tokens"] for asked in server.asked} == {1024}
    assert all(asked.body["messages"][0]["role"] == "system" for asked in server.asked)
    assert "4 groups, 4 complete, 0 with a problem" in capsys.readouterr().out


def test_without_the_mission_its_focus_is_not_shown_and_any_folder_will_do(tmp_path: Path) -> None:
    root, inspector = write_tree(tmp_path / "data", mission="机柜"), Inspector()
    with serving(inspector) as server:
        flags = stage_a(server.url, root, tmp_path / "out", "--no-mission")
        assert main([flag.replace(MISSION, "机柜") for flag in flags]) == 0
    assert not any("机柜" in text or mission(MISSION).focus in text for _, text in inspector.prompts)
    assert (tmp_path / "out" / "机柜_stage_a.jsonl").exists()


def test_a_bad_summary_is_asked_for_once_more_and_then_recorded(tmp_path: Path) -> None:
    says = {
        1: ["两行\n两行"],  # mended by the second
        3: ["object_1: a，object_3: b", "```\n1. a\n3. b\n```"],
        7: ["", ""],
        9: ["<think>没完", "<think>没完"],
    }
    problems = {
        3: ("has 2 lines, not one", "```\n1. a\n3. b\n```"),
        7: ("empty", ""),
        9: ("its thinking never ends", "<think>没完"),
    }
    root, inspector = write_tree(tmp_path / "data"), Inspector(says)
    with serving(inspector) as server:
        assert main(stage_a(server.url, root, tmp_path / "out")) == 0
        assert lines_of(tmp_path / "out") == expected(tmp_path / "out", problems)
        assert Counter(seed for seed, _ in inspector.prompts) == {seed: 1 + (seed in says) for seed in GOOD}
        first, second = (text for seed, text in inspector.prompts if seed == 3)
        assert second.startswith(first) and "1、3" in second
        before = lines_of(tmp_path / "out"), len(server.asked)
        assert main(stage_a(server.url, root, tmp_path / "out")) == 0
        assert (lines_of(tmp_path / "out"), len(server.asked)) == before  # nothing is asked a third time


def test_a_reply_that_was_cut_off_is_asked_for_once_more(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data")

    def respond(asked: Asked, n: int) -> Any:
        seed, text = shown(asked)
        again = "上一次的回答" in text
        return completion(GOOD[seed] if again else "挡风板×1", finish="stop" if again else "length")

    with serving(respond) as server:
        assert main(stage_a(server.url, root, tmp_path / "out")) == 0
        assert len(server.asked) == 2 * len(FILES)
    assert lines_of(tmp_path / "out") == expected(tmp_path / "out")


def test_a_reply_that_was_cut_off_is_no_summary(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data")
    with serving(lambda asked, n: completion("挡风板×1", finish="length")) as server:
        assert main(stage_a(server.url, root, tmp_path / "out")) == 0
    problems = dict.fromkeys(GOOD, ("was cut off at the token limit", "挡风板×1"))
    assert lines_of(tmp_path / "out") == expected(tmp_path / "out", problems)


def test_groups_are_there_as_they_get_complete_in_whole_lines(tmp_path: Path) -> None:
    root, path, seen = write_tree(tmp_path / "data"), tmp_path / "out" / f"{MISSION}_stage_a.jsonl", []

    def look(n: int) -> None:
        text = path.read_text() if path.exists() else ""
        assert text == "" or text.endswith("\n")
        seen.append({(row["label"], row["group_id"]) for row in map(json.loads, text.splitlines())})

    says = {4: ["两行\n两行"]}  # the second group: asked again at the end
    with serving(Inspector(says, look)) as server:
        assert main(stage_a(server.url, root, tmp_path / "out", "--concurrency", "1")) == 0
    assert len(seen) == len(FILES) + 1
    assert all(before <= after for before, after in pairwise(seen))
    assert len(seen[-1]) == 3 and ("fail", "QC-10") not in seen[-1]
    assert lines_of(tmp_path / "out") == expected(tmp_path / "out")


@pytest.mark.parametrize("flags", [(), ("--verify-inputs",)])
def test_an_image_that_is_broken_fails_alone_and_is_tried_again(
    tmp_path: Path, flags: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    root, inspector = write_tree(tmp_path / "data"), Inspector()
    broken = root / MISSION / FOLDERS["fail"] / "QC-2" / "img2.JPEG"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:200])
    with serving(inspector) as server:
        assert main(stage_a(server.url, root, tmp_path / "out", *flags)) == 0
        (row,) = (tmp_path / "out" / f"{MISSION}_stage_a.failures.csv").read_text().splitlines()[1:]
        assert row.startswith("fail/QC-2/img2.JPEG,image,")
        reason = without_times(lines_of(tmp_path / "out"))[0]["problems"]["图片_2"]["problem"]
        assert reason == f"image: {row.partition(',image,')[2].strip(chr(34))}"
        assert lines_of(tmp_path / "out") == expected(tmp_path / "out", {2: (reason, None)})
        assert "1 failed" in capsys.readouterr().out
        assert len(server.asked) == len(FILES) - 1
        broken.write_bytes(whole)
        assert main(stage_a(server.url, root, tmp_path / "out")) == 0
        assert len(server.asked) == len(FILES)
    assert lines_of(tmp_path / "out") == expected(tmp_path / "out")


def test_an_image_more_in_a_group_leaves_the_replies_to_the_others(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data")
    with serving(Inspector()) as server:
        assert main(stage_a(server.url, root, tmp_path / "out")) == 0
        draw(root / MISSION / FOLDERS["fail"] / "QC-10" / "0.png", 9)  # now the first
        assert main(stage_a(server.url, root, tmp_path / "out")) == 0
        assert len(server.asked) == len(FILES) + 1
    group = without_times(lines_of(tmp_path / "out"))[1]
    assert (group["images"], group["per_image"]) == (["0.png", "a.png"], {"图片_1": GOOD[9], "图片_2": GOOD[4]})


@pytest.mark.parametrize("killed_at", [0, 3, 9, 12])
def test_a_killed_run_goes_on_to_the_same_lines(tmp_path: Path, killed_at: int) -> None:
    root, says, reached = write_tree(tmp_path / "data"), {1: ["两行\n两行"], 8: ["", "。"]}, threading.Event()
    with serving(Inspector(says)) as server:
        assert main(stage_a(server.url, root, tmp_path / "whole")) == 0
    with serving(Inspector(says, lambda n: reached.set() if n == killed_at else None)) as server:
        flags = stage_a(server.url, root, tmp_path / "out", "--concurrency", "1")
        process = subprocess.Popen([sys.executable, "-c", MAIN, *flags], stderr=subprocess.DEVNULL)
        assert reached.wait(120)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert main(flags) == 0
        assert len(server.asked) <= len(FILES) + 2 + 1  # the one under way is asked twice
    assert lines_of(tmp_path / "out") == expected(tmp_path / "out", {8: ("holds no word", "。")})
    assert without_times(lines_of(tmp_path / "out")) == without_times(lines_of(tmp_path / "whole"))


def test_what_another_run_left_in_the_file_goes(tmp_path: Path) -> None:
    root, out = write_tree(tmp_path / "data"), tmp_path / "out"
    out.mkdir()
    (out / f"{MISSION}_stage_a.jsonl").write_text('{"group_id": "old"}\n{"torn')
    seen: list[str] = []
    with serving(Inspector(before=lambda n: seen.append(lines_of(out)))) as server:
        assert main(stage_a(server.url, root, out)) == 0
    assert seen[0] == ""  # before the first reply
    assert lines_of(out) == expected(out)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("--data-root", None), "--data-root FOLDER and --mission NAME are both needed"),
        (("--mission", None), "--data-root FOLDER and --mission NAME are both needed"),
        (("--data-root", "nowhere"), "is not a folder"),
        (("--mission", "BBU安装方式检查(正装)"), "did you mean 'BBU安装方式检查（正装）'"),
        (("--mission", "BBU接地线检查"), "has no folder 'BBU接地线检查'"),
        (("--base-url", None), "--base-url"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_asked(
    tmp_path: Path, change: tuple[str, str | None], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(tmp_path / "data")
    with serving(Inspector()) as server:
        flags = stage_a(server.url, tmp_path / "data", tmp_path / "out")
        at = flags.index(change[0])
        flags[at : at + 2] = [change[0], change[1]] if change[1] else []
        assert main(flags) == 2
        assert server.asked == []
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "flags",
    [("--batch-size", "0"), ("--max-pixels", "-1"), ("--max-new-tokens", "0"), ("--top-p", "0"), ("--top-p", "1.1"),
     ("--repetition-penalty", "0"), ("--temperature", "-1"), ("--image-keys", "photo")],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(tmp_path: Path, flags: Sequence[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*stage_a("http://127.0.0.1:1/v1", tmp_path, tmp_path / "out"), *flags])
    assert stopped.value.code == 2


# stage-b


def verdicts(said: dict[str, str]) -> Callable[[Asked, int], Any]:
    """A server that says of a group what `said` has for the first word of its first summary."""

    def respond(asked: Asked, n: int) -> Any:
        assert [message["role"] for message in asked.body["messages"]] == ["system", "user"]
        text = asked.body["messages"][1]["content"]
        assert isinstance(text, str)
        found = re.search(r"图片_1：(\S+)", text)
        assert found is not None
        return completion(said[found[1]])

    return respond


def stage_a_file(path: Path, groups: Sequence[tuple[str, str, str]], name: str = MISSION) -> Path:
    """Lines of (group, label, first summary)."""
    rows = [
        {"group_id": group, "mission": name, "label": label, "images": ["a"], "per_image": {"image_1": first}}
        for group, label, first in groups
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def stage_b(url: str, out: Path, *files: Path) -> int:
    told = ["--stage-a", *map(str, files), "--output-dir", str(out), "--model", "org/inspector-4b"]
    return main(["stage-b", *told, "--engine", "server", "--base-url", url])


SAID = {"全": "通过\n理由: 全", "缺": "<think>嗯</think>不通过\n理由：缺", "错": "不通过", "谎": "通过\n理由: 谎"}


def test_verdicts_and_rates_to_the_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    groups = [
        ("A", "pass", "全"),
        ("B", "fail", "缺"),
        ("C", "fail", "谎"),
        ("D", "审核不通过", "错"),
        ("A", "fail", "缺"),
    ]
    path = stage_a_file(tmp_path / f"{MISSION}_stage_a.jsonl", groups)
    with path.open("a") as file:
        bad = {
            "group_id": "E",
            "mission": MISSION,
            "label": "pass",
            "images": ["a", "b"],
            "per_image": {"图片_1": "全"},
        }
        file.write(json.dumps(bad) + "\n")
    with serving(verdicts(SAID)) as server:
        assert stage_b(server.url, tmp_path / "out", path) == 0
        assert len(server.asked) == 5
        assert {asked.body["max_tokens"] for asked in server.asked} == {256}
    lines = [
        ("A", "pass", "pass", "全", True, "", SAID["全"]),
        ("B", "fail", "fail", "缺", True, "", SAID["缺"]),
        ("C", "fail", "pass", "谎", True, "", SAID["谎"]),
        ("D", "fail", None, "", False, "has 1 line, not two", SAID["错"]),
        ("A", "fail", "fail", "缺", True, "", SAID["缺"]),
    ]
    names = ("group_id", "label", "verdict", "reason", "valid", "problem", "reply")
    rows = [dict(zip(names, line, strict=True)) for line in lines]
    rows = [{"group_id": row["group_id"], "mission": MISSION, **row} for row in rows]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert (tmp_path / "out" / f"{MISSION}_stage_b.jsonl").read_text() == text
    metrics = {
        "groups": 6,
        "not_answered": 1,
        "answered": 5,
        "valid": 4,
        "invalid": 1,
        "accuracy_of_valid": {"value": 0.75, "count": 3, "of": 4},
        "accuracy_invalid_as_wrong": {"value": 0.6, "count": 3, "of": 5},
        "false_pass_rate": {"value": 1 / 3, "count": 1, "of": 3},
        "false_fail_rate": {"value": 0.0, "count": 0, "of": 1},
        "verdicts_by_label": {
            "pass": {"pass": 1, "fail": 0, "invalid": 0},
            "fail": {"pass": 1, "fail": 2, "invalid": 1},
        },
        "model": "inspector-4b",
    }
    found = (tmp_path / "out" / f"{MISSION}_stage_b_metrics.json").read_text()
    assert found == json.dumps(metrics, ensure_ascii=False, indent=2) + "\n"
    assert "lacks a summary of image 2 of 2" in (tmp_path / "out" / f"{MISSION}_stage_b.failures.csv").read_text()
    told = capsys.readouterr().out
    assert "accuracy of valid verdicts: 0.750 (3 of 4)" in told
    assert "通过 on groups labelled fail: 0.333 (1 of 3)" in told


def test_a_verdict_that_was_cut_off_is_none(tmp_path: Path) -> None:
    path = stage_a_file(tmp_path / "x.jsonl", [("A", "pass", "全")])
    with serving(lambda asked, n: completion(SAID["全"], finish="length")) as server:
        assert stage_b(server.url, tmp_path, path) == 0
    (line,) = map(json.loads, (tmp_path / "x_stage_b.jsonl").read_text().splitlines())
    assert (line["verdict"], line["problem"]) == (None, "was cut off at the token limit")


def test_several_files_and_missions(tmp_path: Path) -> None:
    first = stage_a_file(tmp_path / "a.jsonl", [("A", "pass", "全"), ("B", "fail", "谎")])
    second = stage_a_file(tmp_path / "b.jsonl", [("A", "pass", "缺")], "BBU接地线检查")
    with serving(verdicts(SAID)) as server:
        assert stage_b(server.url, tmp_path, first, second) == 0
        shown = [asked.body["messages"][1]["content"] for asked in server.asked]
    assert sum(mission("BBU接地线检查").requirement in text for text in shown) == 1
    metrics = json.loads((tmp_path / "all_stage_b_metrics.json").read_text())
    assert metrics["missions"][MISSION]["false_pass_rate"] == {"value": 1.0, "count": 1, "of": 1}
    assert metrics["missions"]["BBU接地线检查"]["false_pass_rate"]["value"] is None
    assert metrics["accuracy_of_valid"] == {"value": 1 / 3, "count": 1, "of": 3}


def test_stage_b_reads_what_stage_a_wrote(tmp_path: Path) -> None:
    root, out = write_tree(tmp_path / "data"), tmp_path / "out"
    with serving(Inspector({11: ["", ""]})) as server:
        assert main(stage_a(server.url, root, out)) == 0
    with serving(lambda asked, n: completion("通过\n理由: 全")) as server:
        assert stage_b(server.url, out, out / f"{MISSION}_stage_a.jsonl") == 0
        prompts = sorted(asked.body["messages"][1]["content"] for asked in server.asked)
    texts = sorted(
        "\n".join(f"图片_{n}：{text}" for n, text in enumerate(row["per_image"].values(), start=1))
        for row in without_times(lines_of(out))
        if row["stage_a_complete"]
    )
    assert len(texts) == 3
    assert all(any(text in prompt for prompt in prompts) for text in texts)
    metrics = json.loads((out / f"{MISSION}_stage_b_metrics.json").read_text())
    assert (metrics["groups"], metrics["not_answered"], metrics["false_pass_rate"]["value"]) == (4, 1, 1.0)


@pytest.mark.parametrize("flags", [[], ["--stage-a", "nowhere.jsonl"]])
def test_stage_b_without_a_file_is_refused(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stage-b", *flags, "--output-dir", str(tmp_path / "out"), "--model", "shapes"]) == 2
    assert "stage-a wrote" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
