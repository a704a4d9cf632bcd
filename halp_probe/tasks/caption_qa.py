"""CaptionQA: multiple-choice questions on an image, or on a caption of it (arXiv 2511.21025).

Pure functions: an item's prompt, the option that a reply chooses, whether that is right, and its score.
"""

from __future__ import annotations

from dataclasses import dataclass

from halp_probe.labels.letters import LETTERS, Choice, read_choice
from halp_probe.labels.verdict import Verdict, compare_texts, unknown
from halp_probe.records import Sample
from halp_probe.tasks.caption_qa_options import declines
from halp_probe.tasks.task import Task

# The prompts are the benchmark's own, character for character.
SYSTEM_WITH_CAPTION = (
    "You are given a caption describing an image, and a question about the image. Answer with a SINGLE LETTER "
    "(A, B, C, ...), no explanation."
)
_QUESTION = "Question:\n{question}\n\nOptions:\n{options}\n\n"
_ON_IMAGE = _QUESTION + "Answer with just the letter (A, B, C, etc.) of the correct option."
_ON_CAPTION = "Caption:\n{caption}\n\n" + _QUESTION + "Answer:"
_DECLINED_BONUS = 0.05  # declining scores this much above a blind guess


@dataclass(frozen=True, kw_only=True)
class QaItem:
    """Question with its options.

    `options` are in the prompt's order; `choices` and `answer` are the data set's.
    """

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
        """Unique key: the row's id and the question's index in the row."""
        return f"{self.image_id}#{self.index}"

    @property
    def category(self) -> str:
        """First category; "" if there is none."""
        return self.categories[0] if self.categories else ""


def prompt(item: QaItem) -> Sample:
    """Return the question with its options under A, B, …; the prompt for an item with a caption shows no image."""
    lines = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, item.options, strict=False))
    template = _ON_IMAGE if item.caption is None else _ON_CAPTION
    return Sample(
        question_id=item.key,
        image_id=item.image or item.image_id,
        question=template.format(question=item.question, options=lines, caption=item.caption),
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
    """Return the option that the reply chooses."""
    return read_choice(reply, item.options)


def verdict(item: QaItem, choice: Choice) -> Verdict:
    """Judge by the chosen option; unknown where none could be read and where the reply declines to answer."""
    truth = item.options[item.right]
    if choice.index is None:
        return unknown("choice", truth, choice.reason)
    said = item.options[choice.index]
    if declines_wrongly(item, choice):
        return unknown("choice", truth, "declines to answer", said)
    return compare_texts("choice", said, truth)


def declines_wrongly(item: QaItem, choice: Choice) -> bool:
    """Return whether the reply chooses "Cannot answer from …" although another option is right."""
    return choice.index is not None and choice.index != item.right and declines(item.options[choice.index])


def score(item: QaItem, choice: Choice) -> float:
    """Return 1 for the right option, 1/n + 0.05 for declining, else 0.

    n is the number of the data set's choices. A reply from which no option could be read scores 0.
    """
    if declines_wrongly(item, choice):
        return 1 / len(item.choices) + _DECLINED_BONUS
    return float(choice.index == item.right)


CAPTION_QA = Task(name="qa", item_type=QaItem, prompt=prompt, parse=parse, judge=verdict)
CAPTION_QA_ON_CAPTIONS = Task(
    name="qa", item_type=QaItem, prompt=prompt, parse=parse, judge=verdict, system=SYSTEM_WITH_CAPTION
)
