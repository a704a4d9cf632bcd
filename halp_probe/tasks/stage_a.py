"""Stage-A: one line on what an image of a group shows. There is no ground truth: a summary is well formed or not."""

from __future__ import annotations

from dataclasses import dataclass, replace

from halp_probe.labels.verdict import Verdict, unknown
from halp_probe.records import Sample
from halp_probe.reply_text import CUT_OFF
from halp_probe.tasks.missions import mission
from halp_probe.tasks.stage_groups import Group, ImageDescription
from halp_probe.tasks.summary import IRRELEVANT, Problem, Summary, summary
from halp_probe.tasks.task import Task

NAME = "stage-a"
SYSTEM = "你是通信机房施工质量检查的记录员。你只写图片里看得见的东西，不下审核结论，也不猜测看不清的部分。"
_ASKED = "请看这张现场图片，把看到的与安装检查有关的物体写成一行文字。"
_MISSION = "本次检查任务是“{name}”。{focus}"
_FORM = (
    "要求：只写一行，不换行，不用代码块；物体之间用中文逗号隔开，相同的物体用“×数量”合并；"
    "写明每种物体的名称、是否显示完整和状态；看不清或没有拍到的，写在最后的“备注”里；"
    "给物体编号时，从1开始连续编号，不跳号，不重号；"
    f"图片与检查无关时，只写“{IRRELEVANT}”。"
)
_AGAIN = "上一次的回答不合要求：{hint}。请重新看图，严格按照上面的要求再写一次，只写一行。"
_UNFINISHED = Summary("", Problem(CUT_OFF, "写得太长，没有写完"))


@dataclass(frozen=True, kw_only=True)
class ImageItem:
    """Image of a group."""

    mission: str
    label: str  # of the group: "pass" or "fail"
    group_id: str
    image: str  # file below the data root
    focused: bool = True  # whether the prompt states the mission's focus

    @property
    def key(self) -> str:
        """Unique key, with the label, since groups of one id may stand under both, and the file's name.

        The key stays the same when other files are added to the group.
        """
        return image_key(self.label, self.group_id, self.image.rpartition("/")[2])


def image_key(label: str, group_id: str, name: str) -> str:
    """Return the key of an image of a group."""
    return f"{label}/{group_id}/{name}"


def image_keys(group: Group) -> list[str]:
    """Return the key of each image, in order."""
    return [image_key(group.label, group.group_id, name) for name in group.images]


def items_of(group: Group, *, focused: bool) -> list[ImageItem]:
    """Return one item an image, in order."""
    return [
        ImageItem(
            mission=group.mission,
            label=group.label,
            group_id=group.group_id,
            image=f"{group.folder}/{name}",
            focused=focused,
        )
        for name in group.images
    ]


def prompt(item: ImageItem) -> Sample:
    """Return the prompt. Raises InputError for a mission without a focus, where the item wants one."""
    parts = [_ASKED, _FORM]
    if item.focused:
        parts.insert(1, _MISSION.format(name=item.mission, focus=mission(item.mission).focus))
    extra = {"mission": item.mission, "group_id": item.group_id, "label": item.label}
    return Sample(question_id=item.key, image_id=item.image, question="\n".join(parts), answer="", extra=extra)


def parse(item: ImageItem, reply: str) -> Summary:
    """Return the summary in the reply, or what is wrong with it."""
    return summary(reply)


def judge(item: ImageItem, parsed: Summary) -> Verdict:
    """Return an unknown verdict: there is no ground truth for what the image shows."""
    reason = "well formed" if parsed.problem is None else parsed.problem.reason
    return unknown(NAME, "", reason, parsed.text)


def again(item: ImageItem, parsed: Summary) -> Sample | None:
    """Return the same prompt with the problem of the first reply added; None if it had none.

    A greedy model would answer the same prompt in the same way.
    """
    if parsed.problem is None:
        return None
    sample = prompt(item)
    return replace(sample, question=f"{sample.question}\n{_AGAIN.format(hint=parsed.problem.hint)}")


def read_description(reply: str, *, finished: bool, date: str) -> ImageDescription:
    """Return what a reply says of its image. A reply that was cut off is no summary, whatever it says."""
    found = summary(reply) if finished else _UNFINISHED
    return (
        ImageDescription(summary=None, problem=found.problem.reason, reply=reply, date=date)
        if found.problem
        else ImageDescription(summary=found.text, date=date)
    )


STAGE_A: Task[ImageItem, Summary] = Task(
    name=NAME,
    item_type=ImageItem,
    prompt=prompt,
    parse=parse,
    judge=judge,
    system=SYSTEM,
    again=again,
    cut_off=_UNFINISHED,
)
