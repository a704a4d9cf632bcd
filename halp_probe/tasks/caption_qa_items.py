"""CaptionQA: items from rows of the data set; a question that cannot be asked is named and shifts no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from halp_probe.labels.letters import LETTERS
from halp_probe.records import Failure
from halp_probe.tasks.caption_qa import QaItem
from halp_probe.tasks.caption_qa_options import (
    CANNOT_FROM_CAPTION,
    CANNOT_FROM_IMAGE,
    Order,
    asks_for_no_other,
    is_yes_no_by_benchmark,
    sequential_order,
    shown_options,
    stable_order,
)

STAGE = "data"


@dataclass(frozen=True, kw_only=True)
class QaQuestion:
    """Question as the data set holds it.

    `answer` is the text of one of the choices; None if the data set holds no text there.
    """

    question: str
    choices: tuple[str, ...]
    answer: str | None
    categories: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class QaRow:
    """Row of the data set."""

    place: int  # in the data set, from 1
    image_id: str | None
    split: str
    questions: tuple[QaQuestion, ...]
    images: int = 1  # number of images in the row
    image: str | None = None  # its file in the images' folder
    trouble: str = ""  # why there is no file although there is an image
    alone: bool = False  # the data set has one question a row: rows on one image share its id


@dataclass(frozen=True, kw_only=True)
class AskingOptions:
    """Options of how questions are asked.

    `captions`: image id -> the caption to show instead of the image.
    """

    shuffle: str = "stable"  # one of SHUFFLES
    seed: int = 0
    captions: Mapping[str, str] | None = None

    def order(self) -> Order:
        """Return the function that orders a question's options."""
        return stable_order(self.seed) if self.shuffle == "stable" else sequential_order(self.seed)

    def options(self, question: QaQuestion) -> tuple[str, ...]:
        """Return the question's options in the data set's order."""
        cannot = CANNOT_FROM_IMAGE if self.captions is None else CANNOT_FROM_CAPTION
        yes_no = asks_for_no_other if self.shuffle == "stable" else is_yes_no_by_benchmark
        return shown_options(question.question, question.choices, cannot, yes_no)

    def draws(self, row: QaRow, question: QaQuestion) -> bool:
        """Return whether the benchmark's own code asks this question, and so draws an order for it."""
        shown = row.images > 0 if self.captions is None else row.image_id in self.captions
        options = question.choices if self.captions is None else self.options(question)
        return row.image_id is not None and shown and len(options) >= 2 and bool(_matches(question))


@dataclass(frozen=True, kw_only=True)
class NamedRow:
    """Row with its name, and why its questions cannot be asked ("" if they can).

    `name` is the beginning of its questions' keys.
    """

    row: QaRow
    name: str
    first: int  # index of its first question
    trouble: str


def make_items(rows: Iterable[QaRow], asking: AskingOptions) -> tuple[list[QaItem], list[Failure]]:
    """Return the questions that can be asked, in order, and why the others cannot."""
    items, failures = [], []
    order = asking.order()
    for named in named_rows(rows, images=asking.captions is None):
        row = named.row
        if not row.questions:
            failures.append(Failure(question_id=named.name, stage=STAGE, reason=named.trouble or "it has no questions"))
        for index, question in enumerate(row.questions, start=named.first):
            options = asking.options(question)
            drawn = order(row.image_id or "", index, len(options)) if asking.draws(row, question) else ()
            trouble = named.trouble or _caption_trouble(row, asking) or _trouble(question, options)
            if trouble:
                failures.append(Failure(question_id=f"{named.name}#{index}", stage=STAGE, reason=trouble))
            else:
                items.append(_item(row, index, question, tuple(options[place] for place in drawn), asking))
    return items, failures


def named_rows(rows: Iterable[QaRow], *, images: bool) -> Iterator[NamedRow]:
    """Yield all rows with their names, in order; with `images`, each row needs exactly one image to be usable."""
    first: dict[str, QaRow] = {}
    counts: Counter[str] = Counter()
    for row in rows:
        image_id = row.image_id or ""
        if not image_id.strip() or "\n" in image_id:
            yield NamedRow(row=row, name=f"row {row.place}", first=0, trouble="it has no id of one line")
            continue
        earlier = first.setdefault(image_id, row)
        if earlier is not row and not (earlier.alone and row.alone and earlier.image == row.image):
            trouble = f"row {earlier.place} has the same id"
            yield NamedRow(row=row, name=f"{image_id} (row {row.place})", first=0, trouble=trouble)
            continue
        yield NamedRow(row=row, name=image_id, first=counts[image_id], trouble=_image_trouble(row) if images else "")
        counts[image_id] += len(row.questions)


def _item(row: QaRow, index: int, question: QaQuestion, options: tuple[str, ...], asking: AskingOptions) -> QaItem:
    image_id, answer = row.image_id or "", question.answer or ""
    return QaItem(
        image_id=image_id,
        index=index,
        image=row.image,
        question=question.question,
        choices=question.choices,
        answer=answer,
        options=options,
        right=[option.strip() for option in options].index(answer.strip()),
        categories=question.categories,
        source=question.source,
        split=row.split,
        caption=None if asking.captions is None else asking.captions[image_id],
    )


def _matches(question: QaQuestion) -> int:
    """Return how many of the choices equal the answer."""
    if question.answer is None:
        return 0
    return [choice.strip() for choice in question.choices].count(question.answer.strip())


def _image_trouble(row: QaRow) -> str:
    if row.images != 1:
        return f"it has {row.images} images; one is expected" if row.images else "it has no image"
    return row.trouble


def _caption_trouble(row: QaRow, asking: AskingOptions) -> str:
    if asking.captions is None or asking.captions.get(row.image_id or "", "").strip():
        return ""
    return "there is no caption of this image"


def _trouble(question: QaQuestion, options: Sequence[str]) -> str:
    """Return why a question cannot be asked; "" if it can."""
    matches = _matches(question)
    if not question.question.strip():
        return "blank question"
    if len(question.choices) < 2:
        return f"{len(question.choices)} choices; two are needed"
    if not all(choice.strip() for choice in question.choices):
        return "one of its choices is blank"
    if not (question.answer or "").strip():
        return "its answer is not text"
    if matches != 1:
        return f"the answer {question.answer!r} is {'several' if matches else 'none'} of the choices"
    if len(options) > len(LETTERS):
        return f"{len(options)} options; there are {len(LETTERS)} letters"
    return ""
