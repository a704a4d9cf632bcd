"""Dense captioning: name every object of one or more images, with its place, as grouped JSON.

Label 1 (hallucinated): some described object matches no true object at the item's IoU. 0: each described object
matches a true one of its own, and all of the reply could be read. None: anything else, including items without ground
truth, and replies with a place that seems to be in other units than thousandths: then no place in them can be trusted.
Labels are about places; the metrics compare descriptions. An object that the reply leaves out lowers recall and is not
a hallucination.
"""

from __future__ import annotations

from dataclasses import dataclass

from halp_probe.labels.verdict import NO_TRUTH, Verdict, right, unknown, wrong
from halp_probe.records import Sample
from halp_probe.tasks.geometry import DenseObject
from halp_probe.tasks.grouped_json import Reading, read_reply
from halp_probe.tasks.matching import match
from halp_probe.tasks.task import Task

RULE = "objects in place"

SYSTEM = """\
任务：逐个找出图片里的物体，给出每个物体的位置和描述，用 JSON 作答。
结构：{"图片_1": {"object_1": {位置, "desc": "描述"}, "object_2": {…}}, "图片_2": {…}}。\
图片和物体都从 1 开始连续编号；图片里没有物体时写空对象 {}。
位置有三种写法，每个物体只用其中一种：
"bbox_2d": [x1, y1, x2, y2]，矩形框的左上角和右下角；
"quad": [x1, y1, x2, y2, x3, y3, x4, y4]，依次为四个角点；
"line": [x1, y1, …, xn, yn]，折线上的各点，另写 "line_points": n。
坐标取 0 到 1000 的整数，x 是图片宽度的千分之几，y 是图片高度的千分之几。
"desc" 用几个词说明物体，不能为空。除这个 JSON 以外，什么都不要写。"""
_ONE_IMAGE = "请找出这张图片里的所有物体，从上到下、从左到右排列。"
_SEVERAL_IMAGES = "这里有 {count} 张图片，请按图片顺序找出每张图片里的所有物体，各张图片内从上到下、从左到右排列。"


@dataclass(frozen=True, kw_only=True)
class DenseItem:
    """Prompt with its images, of width × height pixels each, and the true objects."""

    key: str
    images: tuple[str, ...]  # files
    widths: tuple[int, ...]
    heights: tuple[int, ...]
    truth: str  # grouped JSON that `read_reply` reads without a problem; "" where it is not known
    prompt: str  # the user's text
    iou: float  # least overlap at which two objects count as one


def default_prompt(images: int) -> str:
    """Return the user's text for a number of images."""
    return _ONE_IMAGE if images == 1 else _SEVERAL_IMAGES.format(count=images)


def prompt(item: DenseItem) -> Sample:
    """Return the prompt that shows the item's images."""
    several = len(item.images) > 1
    image_id = " + ".join(item.images)
    return Sample(
        question_id=item.key,
        image_id=image_id,
        question=item.prompt,
        answer=item.truth,
        images=item.images if several else None,
    )


def parse(item: DenseItem, reply: str) -> Reading:
    """Read the objects that the reply describes."""
    return read_reply(reply, len(item.images))


def true_objects(item: DenseItem) -> tuple[DenseObject, ...]:
    """Return the true objects; empty also where the truth is not known."""
    return read_reply(item.truth, len(item.images)).objects if item.truth else ()


def judge(item: DenseItem, reading: Reading) -> Verdict:
    """Judge by place alone: see the module."""
    true = true_objects(item)
    described, truth = _descriptions(reading.objects), _descriptions(true)
    if not item.truth:
        return unknown(RULE, "", NO_TRUTH, described)
    if doubt := reading.other_units:
        return unknown(RULE, truth, f"places are not in thousandths ({doubt.place} {doubt.reason})", described)
    matched = {id(pair.described) for pair in match(reading.objects, true, item.iou)}
    misplaced = [one for one in reading.objects if id(one) not in matched]
    if misplaced:
        counts = f"{len(misplaced)} of {len(reading.objects)} objects are not there"
        return wrong(RULE, described, truth, f"{counts} at IoU {item.iou:g} (first: {place_of(misplaced[0])})")
    if reading.cut_off:
        return unknown(RULE, truth, "cut off, nothing wrong so far", described)
    if reading.problems:
        place, reason = reading.problems[0].place, reading.problems[0].reason
        return unknown(RULE, truth, f"not all could be read (first problem: {place} {reason})", described)
    if not reading.objects:
        return unknown(RULE, truth, "describes nothing")
    return right(RULE, described, truth, f"each of {len(reading.objects)} objects is there at IoU {item.iou:g}")


def place_of(one: DenseObject) -> str:
    """Return the object's name in problems and matches."""
    return f"图片_{one.image}/object_{one.index}"


def _descriptions(objects: tuple[DenseObject, ...]) -> str:
    return "; ".join(one.desc for one in objects)


DENSE_CAPTION = Task(name="dense-caption", item_type=DenseItem, prompt=prompt, parse=parse, judge=judge, system=SYSTEM)
