"""What counts as a summary of an image, and what as a verdict in two lines: tables of replies, and any text at all."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from halp_probe.errors import InputError
from halp_probe.tasks.missions import mission, missions
from halp_probe.tasks.stage_a import STAGE_A, ImageItem
from halp_probe.tasks.stage_b import LABELS_BY_WORD, STAGE_B, Decision, GroupItem, decision
from halp_probe.tasks.summary import summary
from halp_probe.tasks.task import item_json

NAMES = ("BBU安装方式检查（正装）", "BBU接地线检查", "BBU线缆布放要求", "挡风板安装检查")
LINE = "BBU设备/华为/显示完整×1，挡风板/安装方向正确×2，备注: 左侧没有拍到"
STATISTICS = '{"dataset": "BBU", "统计": [{"类别": "BBU设备", "品牌": {"华为": 1}}], "objects_total": 1}'
IMAGE = ImageItem(mission=NAMES[3], label="fail", group_id="QC-1", image=f"{NAMES[3]}/审核不通过/QC-1/a.jpg")
GROUP = GroupItem(mission=NAMES[3], label="fail", group_id="QC-1", summaries=("BBU设备×1", "挡风板×1"))

# reply -> the summary in it
SUMMARIES = [
    (LINE, LINE),
    (f"  \n{LINE}\n ", LINE),
    (f"<think>两块？\n一块？</think>\n\n{LINE}", LINE),
    (f"看到了挡风板。</think>{LINE}", LINE),
    (f"<think>a</think>x\ny</think>{LINE}", LINE),
    (f"```\n{LINE}\n```", LINE),
    (f"```text\n{LINE}\n```", LINE),
    (f"```json\n{STATISTICS}\n```", STATISTICS),
    (f"```json {STATISTICS}```", STATISTICS),
    ("```BBU设备×1```", "BBU设备×1"),
    (f"<DOMAIN=BBU>, <TASK=SUMMARY>\n{STATISTICS}", STATISTICS),
    (STATISTICS, STATISTICS),
    (json.dumps({"图片_1": LINE}, ensure_ascii=False), LINE),
    ('{"image_1": " BBU设备×1\\n"}', "BBU设备×1"),
    ('{\n  "图片_1": "BBU设备×1"\n}', "BBU设备×1"),
    ("无关图片", "无关图片"),
    ("object_1: BBU设备，object_2: 挡风板", "object_1: BBU设备，object_2: 挡风板"),
    ("物体_1 BBU设备，物体_2 挡风板", "物体_1 BBU设备，物体_2 挡风板"),
    ("物体1：BBU设备 物体2：挡风板", "物体1：BBU设备 物体2：挡风板"),
    ("object_1: BBU设备；object_2: 挡风板，遮住了 object_1", "object_1: BBU设备；object_2: 挡风板，遮住了 object_1"),
    ("1. BBU设备×1 2. 挡风板×2", "1. BBU设备×1 2. 挡风板×2"),
    ("1、BBU设备；2、挡风板；3、标签", "1、BBU设备；2、挡风板；3、标签"),
    ("(1) BBU设备，(2) 挡风板", "(1) BBU设备，(2) 挡风板"),
    ("（1）BBU设备，（2）挡风板", "（1）BBU设备，（2）挡风板"),
    ("1. BBU设备，光纤长约2.5米", "1. BBU设备，光纤长约2.5米"),
    ("1.5米长的光纤×1", "1.5米长的光纤×1"),
    ("10:30拍摄，BBU设备×1", "10:30拍摄，BBU设备×1"),
    ("看到物体2个，都是挡风板", "看到物体2个，都是挡风板"),
    ('{"object_1": "BBU设备", "object_2": "挡风板"}', '{"object_1": "BBU设备", "object_2": "挡风板"}'),
    ('{"object_1": {"desc": "BBU设备"}, "备注": "无"}', '{"object_1": {"desc": "BBU设备"}, "备注": "无"}'),
    ('{"图片_1": {"object_1": "BBU设备"}}', '{"图片_1": {"object_1": "BBU设备"}}'),
]

# reply -> what its problem says
BAD_SUMMARIES = [
    ("", "empty"),
    (" \n\t", "empty"),
    ("<think>还在想", "thinking never ends"),
    ("</think>", "empty"),
    ("</think><think>又想", "thinking never ends"),
    ("```\n```", "empty"),
    ("。。。", "holds no word"),
    ("---", "holds no word"),
    (f"{LINE}\n{LINE}", "has 2 lines"),
    ("BBU设备×1\n\n挡风板×1", "has 3 lines"),
    ("BBU设备×1\r\n挡风板×1", "has 2 lines"),
    ("BBU设备×1\u2028挡风板×1", "has 2 lines"),
    ("BBU设备×1\x85挡风板×1", "has 2 lines"),
    (f"好的：\n```\n{LINE}\n```", "has 4 lines"),
    ("```BBU设备``` ```挡风板```", "code fence"),
    ('{"图片_1": "BBU设备\\n挡风板"}', "has 2 lines"),
    ('{"图片_1": ""}', "empty"),
    ("object_1: BBU设备，object_3: 挡风板", "numbers its objects 1, 3, not 1 to 2"),
    ("object_2: BBU设备", "numbers its objects 2, not 1 to 1"),
    ("object_0: BBU设备，object_1: 挡风板", "numbers its objects 0, 1"),
    ("object_1: BBU设备，object_1: 挡风板", "numbers its objects 1, 1"),
    ("物体_2 BBU设备，物体_1 挡风板", "numbers its objects 2, 1"),
    ("Object 1: BBU设备 OBJECT 3: 挡风板", "numbers its objects 1, 3"),
    ("物体１：BBU设备，物体３：挡风板", "numbers its objects 1, 3"),
    ("1. BBU设备 3. 挡风板", "numbers its objects 1, 3"),
    ("2. BBU设备", "numbers its objects 2"),
    ("1、BBU设备；1、挡风板", "numbers its objects 1, 1"),
    ("(1) BBU设备，(3) 挡风板", "numbers its objects 1, 3"),
    ('{"object_1": "a", "object_3": "b"}', "numbers its objects 1, 3"),
    ('{"object_1": "a", "object_1": "b"}', "key 'object_1' twice"),
    ('{"图片_1": {"object_2": "a"}}', "numbers its objects 2"),
    ('{"object_1": "BBU设', "begins like JSON"),
    ('{"object_1": "a"} 完', "begins like JSON"),
    ("{看不清} BBU设备", "begins like JSON"),
    ("{}", "holds no word"),
    ('{"a": ' + "[" * 100_000, "begins like JSON"),
    ('{"a": ' + "9" * 5000 + "}", "begins like JSON"),
]


REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I am unable to see the image. Please provide it.",
    "Sorry, I cannot assist with this request, it is against my policy.",
    "As an AI language model, I cannot view the picture",
)
NOTES = (
    "螺丝×2，标签×1，备注：unable to read the label",
    "BBU设备×1, screw ×2, the label is unclear",
    "I-beam ×2, it is not clear, screw ×1",
)


@pytest.mark.parametrize("reply", REFUSALS)
def test_a_refusal_is_no_summary(reply: str) -> None:
    found = summary(reply)
    assert found.text == "" and found.problem is not None and found.problem.reason == "is a refusal"


@pytest.mark.parametrize("reply", NOTES)
def test_a_note_on_what_is_not_visible_is_no_refusal(reply: str) -> None:
    assert summary(reply).text == reply


def test_the_tables_are_as_long_as_they_should_be() -> None:
    assert len(SUMMARIES) >= 30
    assert len(BAD_SUMMARIES) >= 30
    assert len(VERDICTS) + len(BAD_VERDICTS) >= 30


@pytest.mark.parametrize(("reply", "line"), SUMMARIES)
def test_a_summary_is_found(reply: str, line: str) -> None:
    found = summary(reply)
    assert (found.text, found.problem) == (line, None)


@pytest.mark.parametrize(("reply", "reason"), BAD_SUMMARIES, ids=lambda text: text[:20])
def test_a_bad_summary_is_named_and_gives_no_text(reply: str, reason: str) -> None:
    found = summary(reply)
    assert found.text == ""
    assert found.problem is not None
    assert reason in found.problem.reason
    assert re.search(r"[\u4e00-\u9fff]", found.problem.hint)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), st.sampled_from(["object_{}: x", "物体_{} x", "物体{}：x"]))
def test_only_numbers_from_1_on_without_gap_or_repeat_are_taken(numbers: list[int], form: str) -> None:
    line = "，".join(form.format(number) for number in numbers)
    contiguous = numbers == [1 + at for at in range(len(numbers))]
    assert (summary(line).problem is None) == contiguous
    as_json = "{" + ", ".join(f'"object_{number}": "x"' for number in numbers) + "}"
    assert (summary(as_json).problem is None) == contiguous


PIECES = [
    "object_",
    "物体_",
    "1",
    "3",
    "：",
    ":",
    ".",
    "、",
    "{",
    "}",
    '"',
    "```",
    "json",
    "</think>",
    "<think>",
    "\n",
    "，",
]
PIECES += ["通过", "不通过", "理由", " ", "图片_1", "\u2028", "\r", "9" * 400, "[", "<DOMAIN=", ">, <TASK=", "×"]
ANY_TEXT = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=30).map("".join))


@given(ANY_TEXT)
@example("[" * 100_000)
@example("\ud800")
def test_no_text_breaks_a_parser_and_a_summary_is_one_line_of_the_reply(text: str) -> None:
    found = summary(text)
    assert (found.text == "") == (found.problem is not None)
    if found.problem is None:
        assert len(found.text.splitlines()) == 1
        assert found.text in text or found.text in json.loads(re.search(r"\{.*\}", text, re.DOTALL)[0]).values()  # type: ignore[index]
    said = decision(text)
    assert (said.verdict is None) == bool(said.problem)
    STAGE_A.verdict(IMAGE, text)
    STAGE_B.verdict(GROUP, text)
    again = STAGE_A.again(IMAGE, found)  # type: ignore[misc]
    assert (again is None) == (found.problem is None)


# verdicts


VERDICTS = [
    ("通过\n理由: 挡风板齐全", "pass", "挡风板齐全"),
    ("不通过\n理由: 图片_2没有挡风板", "fail", "图片_2没有挡风板"),
    ("通过\n理由：挡风板齐全", "pass", "挡风板齐全"),
    ("不通过\n理由:缺一块", "fail", "缺一块"),
    ("\n 不通过\n理由: 缺一块 \n\n", "fail", "缺一块"),
    ("通过\r\n理由: 齐全\r\n", "pass", "齐全"),
    ("<think>通过？\n不通过？</think>\n不通过\n理由: 缺一块", "fail", "缺一块"),
    ("想完了</think>通过\n理由: 齐全", "pass", "齐全"),
    ("通过\n理由: 记录里写“不通过”是笔误", "pass", "记录里写“不通过”是笔误"),
    ("不通过\n理由: 理由: 两次", "fail", "理由: 两次"),
]

BAD_VERDICTS = [
    ("", "empty"),
    ("通过", "has 1 line, not two"),
    ("不通过", "has 1 line, not two"),
    ("通过 理由: 齐全", "has 1 line"),
    ("理由: 齐全\n通过", "first line"),
    ("通过。\n理由: 齐全", "first line"),
    ("通过 \n理由: 齐全", "first line"),
    ("审核通过\n理由: 齐全", "first line"),
    ("审核不通过\n理由: 缺", "first line"),
    ("未通过\n理由: 缺", "first line"),
    ("不 通过\n理由: 缺", "first line"),
    ("不通过，通过\n理由: 缺", "first line"),
    ("“通过”\n理由: 齐全", "first line"),
    ("**通过**\n理由: 齐全", "first line"),
    ("pass\n理由: 齐全", "first line"),
    ("結論：通过\n理由: 齐全", "first line"),
    ("结论: 不通过\n理由: 缺", "first line"),
    ("通过\n不通过", "second line"),
    ("通过\n齐全", "second line"),
    ("通过\n 理由: 齐全", "second line"),
    ("通过\n理由 齐全", "second line"),
    ("通过\n理由 : 齐全", "second line"),
    ("通过\n原因: 齐全", "second line"),
    ("通过\nReason: 齐全", "second line"),
    ("通过\n理由:", "gives no reason"),
    ("通过\n理由：　 ", "gives no reason"),
    ("通过\n\n理由: 齐全", "has 3 lines"),
    ("通过\n理由: 齐全\n请复核", "has 3 lines"),
    ("通过\n理由: 一\n不通过\n理由: 二", "has 4 lines"),
    ("```\n通过\n理由: 齐全\n```", "has 4 lines"),
    ("通过\n理由: 齐全\u2028不通过", "has 3 lines"),
    ("通过\u2028理由: 齐全", "has 1 line"),
    ("通过\x1c理由: 齐全", "has 1 line"),
    ("通过\\n理由: 齐全", "has 1 line"),
    ("<think>通过\n理由: 齐全", "thinking never ends"),
    ("通过\n理由: 齐全</think>", "empty"),
    ("無法判断\n理由: 看不清", "first line"),
]


@pytest.mark.parametrize(("reply", "verdict", "reason"), VERDICTS)
def test_a_verdict_is_read(reply: str, verdict: str, reason: str) -> None:
    assert decision(reply) == Decision(verdict=verdict, reason=reason)
    assert STAGE_B.read(GROUP, reply, finished=False).verdict is None
    assert STAGE_B.verdict(GROUP, reply, finished=False).label is None


@pytest.mark.parametrize(("reply", "problem"), BAD_VERDICTS)
def test_anything_else_is_invalid_with_the_reason(reply: str, problem: str) -> None:
    found = decision(reply)
    assert found.verdict is None
    assert problem in found.problem
    assert STAGE_B.verdict(GROUP, reply).label is None


@given(ANY_TEXT.filter(lambda text: "think>" not in text), st.sampled_from(["通过", "不通过"]), st.sampled_from(":："))
def test_two_lines_are_a_verdict_when_the_second_has_a_reason(reason: str, word: str, colon: str) -> None:
    found = decision(f"{word}\n理由{colon}{reason}")
    one_line = len(f".{reason}".strip().splitlines()) == 1
    expected = Decision(verdict=LABELS_BY_WORD[word], reason=reason.strip()) if one_line and reason.strip() else None
    assert (found if found.verdict else None) == expected


@pytest.mark.parametrize(
    ("reply", "label", "expected"),
    [
        ("不通过\n理由: 缺", "fail", 0),
        ("不通过\n理由: 缺", "pass", 1),
        ("通过\n理由: 全", "pass", 0),
        ("通过\n理由: 全", "fail", 1),
        ("通过", "pass", None),
    ],
)
def test_a_verdict_is_right_when_it_is_the_groups_label(reply: str, label: str, expected: int | None) -> None:
    assert (
        STAGE_B.verdict(GroupItem(mission=NAMES[0], label=label, group_id="g", summaries=("x",)), reply).label
        == expected
    )


# prompts


def test_a_summary_has_no_ground_truth() -> None:
    assert STAGE_A.verdict(IMAGE, LINE).label is None
    assert STAGE_A.verdict(IMAGE, LINE).reason == "well formed"
    assert "lines" in STAGE_A.verdict(IMAGE, "a\nb").reason


@pytest.mark.parametrize("name", NAMES)
def test_the_prompt_shows_the_missions_focus_unless_it_shall_not(name: str) -> None:
    item = ImageItem(mission=name, label="pass", group_id="QC-1", image=f"{name}/审核通过/QC-1/a.jpg")
    sample = STAGE_A.prompt(item)
    assert mission(name).focus in sample.question
    assert name in sample.question
    assert sample.files == (item.image,)
    assert (sample.question_id, sample.extra["label"]) == ("pass/QC-1/a.jpg", "pass")
    plain = STAGE_A.prompt(
        ImageItem(mission=name, label="pass", group_id="QC-1", image=item.image, focused=False)
    ).question
    assert mission(name).focus not in plain
    assert name not in plain
    assert "审核" not in sample.question  # nothing tells the label


def test_asking_again_repeats_the_prompt_and_names_what_was_wrong() -> None:
    bad = STAGE_A.parse(IMAGE, "object_1: a，object_3: b")
    sample = STAGE_A.again(IMAGE, bad)  # type: ignore[misc]
    assert sample is not None
    assert sample.question.startswith(STAGE_A.prompt(IMAGE).question)
    assert "1、3" in sample.question
    assert bad.problem is not None
    assert bad.problem.hint in sample.question
    assert sample.question_id == IMAGE.key
    assert STAGE_A.again(IMAGE, STAGE_A.read(IMAGE, LINE, finished=True)) is None  # type: ignore[misc]


def test_a_summary_that_was_cut_off_is_asked_for_again_however_it_looks() -> None:
    sample = STAGE_A.again(IMAGE, STAGE_A.read(IMAGE, LINE, finished=False))  # type: ignore[misc]
    assert sample is not None
    assert "没有写完" in sample.question


def test_a_groups_prompt_is_text_alone_with_every_summary_and_not_its_label() -> None:
    passing, failing = (
        STAGE_B.prompt(GroupItem(mission=NAMES[3], label=label, group_id="QC-1", summaries=("甲×1", "乙×2")))
        for label in ("pass", "fail")
    )
    assert passing.question == failing.question
    assert passing.files == ()
    assert (passing.answer, failing.answer) == ("通过", "不通过")
    assert passing.question_id != failing.question_id
    assert "图片_1：甲×1\n图片_2：乙×2\n" in passing.question
    assert mission(NAMES[3]).focus in passing.question
    assert mission(NAMES[3]).requirement in passing.question


@pytest.mark.parametrize(("task", "item"), [(STAGE_A, IMAGE), (STAGE_B, GROUP)])
def test_an_item_is_made_again_from_its_text(task, item) -> None:  # type: ignore[no-untyped-def]
    assert task.item(item_json(item)) == item


# missions


def test_the_missions_are_those_that_are_supported() -> None:
    assert tuple(missions()) == NAMES
    assert all(len(text) > 20 for each in missions().values() for text in (each.focus, each.requirement))


@pytest.mark.parametrize(
    ("wrong", "meant", "told"),
    [
        ("BBU安装方式检查(正装)", NAMES[0], "differ in width"),
        ("ＢＢＵ接地线检查", NAMES[1], "differ in width"),
        ("BBU 接地线检查", NAMES[1], "differ in width"),
        ("挡风板安装检测", NAMES[3], "did you mean"),
    ],
)
def test_a_name_that_looks_alike_is_told_what_it_should_be(wrong: str, meant: str, told: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"did you mean {meant!r}")) as error:
        mission(wrong)
    assert told in str(error.value)


def test_a_name_that_is_none_is_told_which_are() -> None:
    with pytest.raises(InputError) as error:
        mission("kitchen")
    assert "did you mean" not in str(error.value)
    assert all(name in str(error.value) for name in NAMES)
