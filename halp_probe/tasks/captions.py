"""Captions of images, one each, from which CaptionQA can be answered; there is no ground truth for a caption."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from halp_probe.labels.verdict import EMPTY_ANSWER, Verdict, unknown
from halp_probe.records import Failure, Sample
from halp_probe.reply_text import after_thinking
from halp_probe.tasks.caption_qa_items import STAGE, QaRow, named_rows
from halp_probe.tasks.task import Task

PROMPT_STYLES: Mapping[str, str] = {
    "simple": "Describe this image.",
    "short": "Describe this image in one sentence.",
    "detailed": (
        "Describe this image in detail: every object with its colour, size, material and place, what happens, any text "
        "word for word, and the background."
    ),
}


@dataclass(frozen=True, kw_only=True)
class CaptionItem:
    """Image to describe."""

    image_id: str  # the row's id
    image: str  # file in the images' folder
    prompt: str
    split: str


def make_caption_items(rows: Iterable[QaRow], prompt_text: str) -> tuple[list[CaptionItem], list[Failure]]:
    """Return one item an image, in the data set's order, and why other rows have none."""
    items: dict[str, CaptionItem] = {}
    failures = []
    for named in named_rows(rows, images=True):
        row = named.row
        if named.trouble:
            failures.append(Failure(question_id=named.name, stage=STAGE, reason=named.trouble))
        elif row.image is not None:
            items.setdefault(
                named.name, CaptionItem(image_id=named.name, image=row.image, prompt=prompt_text, split=row.split)
            )
    return list(items.values()), failures


def prompt(item: CaptionItem) -> Sample:
    """Return the prompt that asks for the caption."""
    return Sample(
        question_id=item.image_id, image_id=item.image, question=item.prompt, answer="", extra={"split": item.split}
    )


def parse(_item: CaptionItem, reply: str) -> str:
    """Return the text after the model's thinking; "" if the thinking never ends."""
    return after_thinking(reply) or ""


def verdict(_item: CaptionItem, caption: str) -> Verdict:
    """Return an unknown verdict: there is nothing to compare a caption with."""
    return unknown("caption", "", "a caption has no ground truth" if caption else EMPTY_ANSWER, caption)


CAPTION = Task(name="caption", item_type=CaptionItem, prompt=prompt, parse=parse, judge=verdict)


def captions(answers: Iterable[tuple[CaptionItem, str]]) -> dict[str, str]:
    """Return captions by image id; empty ones are left out."""
    found = {item.image_id: parse(item, reply) for item, reply in answers}
    return {image_id: caption for image_id, caption in found.items() if caption}


def as_json(found: Mapping[str, str]) -> str:
    """Encode as the benchmark writes its captions: ASCII, indented by two, without a newline at the end."""
    return json.dumps(found, indent=2)
