"""CaptionQA: multiple-choice questions on an image, or on a caption of it (arXiv 2511.21025).

Pure: an item, its prompt, what a reply says, whether that is right and what it scores.
"""

from __future__ import annotations

from dataclasses import dataclass

from halp_probe.labels.verdict import Verdict, compare_texts, unknown
from halp_probe.records import Sample
from halp_probe.tasks.caption_qa_options import declines
from halp_probe.tasks.letters import LETTERS, Choice, chosen
from halp_probe.tasks.task import Task

# The prompts are the benchmark's own, to the letter.
SYSTEM_WITH_CAPTION = (
    "You are given a caption describing an image, and a question about the image. Answer with a SINGLE LETTER "
    "(A, B, C, ...), no explanation."
)
_ASKED = "Question:\n{question}\n\nOptions:\n{options}\n\n"
_ON_IMAGE = _ASKED + "Answer with just the letter (A, B, C, etc.) of the correct option."
_ON_CAPTION = "Caption:\n{caption}\n\n" + _ASKED + "Answer:"
_DECLINED_BONUS = 0.05  # declining scores this much above a blind guess


@dataclass(frozen=True, kw_only=True)
class QaItem:
    """One question. `options` are what the prompt shows, in its order; `choices` and `answer` are the data set's."""

    image_id: str  # the row's id
    index: int  # of the question in its row
    image: str | None  # file in the images' folder; None where only the caption is shown
    question: str
    choices: tuple[str, ...]
    answer: str
    options: tuple[str, ...]
    right: int  # the right one's index in `options`
    categories: tuple[str, ...]
    source: str
    split: str
    caption: str | None = None  # shown instead of the image

    @property
    def key(self) -> str:
        return f"{self.image_id}#{self.index}"

    @property
    def category(self) -> str:
        """The first one; "" for none."""
        return self.categories[0] if self.categories else ""


def prompt(item: QaItem) -> Sample:
    """The question with its options under A, B, …; a caption's item shows no image."""
    lines = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, item.options, strict=False))
    asked = _ON_IMAGE if item.caption is None else _ON_CAPTION
    return Sample(
        question_id=item.key,
        image_id=item.image or item.image_id,
        question=asked.format(question=item.question, options=lines, caption=item.caption),
        answer=item.options[item.right],
        extra={
            "category": item.category,
            "categories": "; ".join(item.categories),
            "source": item.source,
            "split": item.split,
            "n_choices": str(len(item.choices)),
        },
        images=None if item.caption is None else (),
    )


def parse(item: QaItem, reply: str) -> Choice:
    """The option that the reply chooses."""
    return chosen(reply, item.options)


def verdict(item: QaItem, choice: Choice) -> Verdict:
    """Right or wrong by the option; unknown where none could be read and where the reply declines to answer."""
    truth = item.options[item.right]
    if choice.index is None:
        return unknown("choice", truth, choice.reason)
    said = item.options[choice.index]
    if declined(item, choice):
        return unknown("choice", truth, "declines to answer", said)
    return compare_texts("choice", said, truth)


def declined(item: QaItem, choice: Choice) -> bool:
    """Whether the reply chooses to say that it cannot answer, where that is not the right answer."""
    return choice.index is not None and choice.index != item.right and declines(item.options[choice.index])


def score(item: QaItem, choice: Choice) -> float:
    """1 for the right option; declining 1/n + 0.05 with n the data set's choices; else 0, also where none was read."""
    if declined(item, choice):
        return 1 / len(item.choices) + _DECLINED_BONUS
    return float(choice.index == item.right)


CAPTION_QA = Task(name="qa", item_type=QaItem, prompt=prompt, parse=parse, judge=verdict)
CAPTION_QA_ON_CAPTIONS = Task(
    name="qa", item_type=QaItem, prompt=prompt, parse=parse, judge=verdict, system=SYSTEM_WITH_CAPTION
)
