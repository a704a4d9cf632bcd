"""Stage-B: whether a group passes its mission's check, asked with its images' summaries alone; two lines answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from halp_probe.labels.verdict import Verdict, compare_texts, unknown
from halp_probe.records import Sample
from halp_probe.reply_text import CUT_OFF, after_thinking
from halp_probe.tasks.missions import mission
from halp_probe.tasks.stage_groups import FAIL, PASS
from halp_probe.tasks.task import Task

NAME = "stage-b"
LABELS_BY_WORD = {"通过": PASS, "不通过": FAIL}
WORDS = {label: word for word, label in LABELS_BY_WORD.items()}
SYSTEM = "你是通信机房施工质量检查的审核员。你看不到图片，只能依据每张图片的文字记录，判断这一组图片是否通过检查。"
_ASKED = """\
检查任务：{name}
检查要点：{focus}
合格条件：{requirement}
这一组共有{count}张图片，逐张记录如下：
{summaries}
请综合全部记录给出结论，只写两行，不写任何别的内容：
第一行只写“通过”或“不通过”；
第二行以“理由:”开头，用一句话写明依据。"""
_REASON = re.compile(r"理由[:：](.*)")


@dataclass(frozen=True, kw_only=True)
class GroupItem:
    """Group with the summaries of its images, in order."""

    mission: str
    label: str  # what people decided: "pass" or "fail"
    group_id: str
    summaries: tuple[str, ...]  # one line each

    @property
    def key(self) -> str:
        """Unique key, with mission and label, since groups of different missions and labels may share an id."""
        return group_key(self.mission, self.label, self.group_id)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Decision in a reply.

    `verdict`: "pass", "fail", or None where the reply does not have the required form; `problem` then says why.
    """

    verdict: str | None
    reason: str = ""
    problem: str = ""


def group_key(mission_name: str, label: str, group_id: str) -> str:
    """Return the key of a group."""
    return f"{mission_name}/{label}/{group_id}"


def prompt(item: GroupItem) -> Sample:
    """Return the prompt. Raises InputError for an unknown mission."""
    wanted = mission(item.mission)
    question = _ASKED.format(
        name=wanted.name,
        focus=wanted.focus,
        requirement=wanted.requirement,
        count=len(item.summaries),
        summaries="\n".join(f"图片_{index}：{text}" for index, text in enumerate(item.summaries, start=1)),
    )
    extra = {"mission": item.mission, "group_id": item.group_id, "label": item.label}
    return Sample(
        question_id=item.key,
        image_id=item.group_id,
        question=question,
        answer=WORDS[item.label],
        extra=extra,
        images=(),
    )


def parse(item: GroupItem, reply: str) -> Decision:
    """Return the decision in the reply."""
    return decision(reply)


def decision(reply: str) -> Decision:
    """Return the verdict in a reply, for any text, without raising; nothing but the two lines is a verdict.

    Only the text after the last `</think>` counts, stripped: first "通过" or "不通过" and nothing else, then "理由:"
    (or "理由：") with a reason.
    """
    said = after_thinking(reply)
    if said is None:
        return Decision(verdict=None, problem="its thinking never ends")
    lines = said.splitlines() if "\n" in said else [said]  # rarer line breaks alone do not separate lines
    if len(lines) != 2:
        return Decision(
            verdict=None, problem=f"has {len(lines)} line{'s'[: len(lines) != 1]}, not two" if said else "empty"
        )
    verdict = LABELS_BY_WORD.get(lines[0])
    if verdict is None:
        return Decision(verdict=None, problem="the first line is neither 通过 nor 不通过")
    reason = _REASON.fullmatch(lines[1])
    if reason is None:
        return Decision(verdict=None, problem="the second line does not begin with 理由:")
    if not reason[1].strip():
        return Decision(verdict=None, problem="gives no reason")
    return Decision(verdict=verdict, reason=reason[1].strip())


def judge(item: GroupItem, parsed: Decision) -> Verdict:
    """Return right where the verdict is the group's label; unknown without a verdict."""
    truth = WORDS[item.label]
    if parsed.verdict is None:
        return unknown(NAME, truth, parsed.problem)
    return compare_texts(NAME, WORDS[parsed.verdict], truth)


STAGE_B: Task[GroupItem, Decision] = Task(
    name=NAME,
    item_type=GroupItem,
    prompt=prompt,
    parse=parse,
    judge=judge,
    system=SYSTEM,
    cut_off=Decision(verdict=None, problem=CUT_OFF),
)
