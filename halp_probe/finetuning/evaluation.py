"""Evaluation on held-out pictures, compared with the most frequent answer and with swapped pictures.

One question a picture, the first of its conversation, is asked as extraction would ask it. Answers that no rule can
judge are unknown and count in no accuracy, so sources of long answers have none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from halp_probe.engine.engine import Engine
from halp_probe.engine.images import load_image
from halp_probe.engine.prompting import Prompter
from halp_probe.finetuning.mixing import content_of
from halp_probe.finetuning.records import Conversation
from halp_probe.labels.normalise import bare
from halp_probe.labels.rules import judge
from halp_probe.labels.verdict import RIGHT
from halp_probe.models.loading import LoadedModel
from halp_probe.records import CaptureSpec, Sample

COLUMNS = ("source", "key", "question", "truth", "answer", "right", "answer_swapped", "right_swapped")


@dataclass(frozen=True, kw_only=True)
class Row:
    """Held-out question; `…_swapped` belong to the same question with another picture, "" where there is no other."""

    source: str
    key: str
    question: str
    truth: str
    answer: str
    right: bool | None  # None: no rule can judge it
    answer_swapped: str
    right_swapped: bool | None

    @property
    def cells(self) -> tuple[str, ...]:
        """Cells in the order of COLUMNS."""
        rights = ["" if right is None else str(int(right)) for right in (self.right, self.right_swapped)]
        return (
            self.source, self.key, self.question, self.truth, self.answer, rights[0], self.answer_swapped, rights[1]
        )  # fmt: skip


def ask(
    loaded: LoadedModel,
    held_out: Sequence[Conversation],
    *,
    batch_size: int,
    max_new_tokens: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Row] | None:
    """Answer conversations' first questions greedily, each with its own picture and then with another one.

    The other picture is the next one of another content, cyclically. Returns None when `should_stop` ended it early.
    """
    conversations = [conversation for conversation in held_out if conversation.image is not None]
    images = [conversation.image for conversation in conversations if conversation.image is not None]
    others = _others(images)
    pairs = [(each, other) for each, other in zip(conversations, others, strict=True) if other is not None]
    shown = [*zip(conversations, images, strict=True), *pairs]
    answers = iter(_answers(loaded, shown, batch_size, max_new_tokens, should_stop))
    own = [answer for _, answer in zip(conversations, answers, strict=False)]
    swapped_answers = list(answers)
    if len(own) + len(swapped_answers) < len(shown):
        return None
    swapped = ["" if other is None else swapped_answers.pop(0) for other in others]
    return [
        Row(
            source=conversation.source,
            key=conversation.key,
            question=(first := conversation.turns[0]).question,
            truth=first.answer,
            answer=answer,
            right=_is_right(answer, first.answer, first.question),
            answer_swapped=answer_swapped,
            right_swapped=_is_right(answer_swapped, first.answer, first.question),
        )
        for conversation, answer, answer_swapped in zip(conversations, own, swapped, strict=True)
    ]


def summary(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return by source: number judged, accuracy, that of the most frequent true answer, that with swapped pictures.

    Each accuracy is over the answers that were judged; the rules also judge the most frequent answer.
    The 95 % interval (Wilson) takes questions as independent: each has a picture of its own.
    """
    return {
        source: _source_summary([row for row in rows if row.source == source])
        for source in dict.fromkeys(row.source for row in rows)
    }


def _source_summary(rows: Sequence[Row]) -> dict[str, Any]:
    judged = [row for row in rows if row.right is not None]
    found: dict[str, Any] = {"questions": len(rows), "judged": len(judged)}
    if not judged:
        return {**found, "accuracy": None}
    interval = binomtest(sum(map(_right, judged)), len(judged)).proportion_ci(method="wilson")
    majority = Counter(bare(row.truth) for row in judged).most_common(1)[0][0]
    swapped = [row.right_swapped for row in judged if row.right_swapped is not None]
    return {
        **found,
        "accuracy": sum(map(_right, judged)) / len(judged),
        "accuracy_95": [interval.low, interval.high],
        "majority_answer": majority,
        "majority_accuracy": sum(bool(_is_right(majority, row.truth, row.question)) for row in judged) / len(judged),
        "swapped_judged": len(swapped),
        "swapped_accuracy": sum(swapped) / len(swapped) if swapped else None,
    }


def _right(row: Row) -> bool:
    return bool(row.right)


def _others(images: Sequence[Path]) -> list[Path | None]:
    """Return, for each image, the next one of another content; None where all have the same."""
    contents = [content_of(image) for image in images]
    return [
        next((images[n % len(images)] for n in range(k + 1, k + len(images)) if contents[n % len(images)] != own), None)
        for k, own in enumerate(contents)
    ]


def _answers(
    loaded: LoadedModel,
    conversations: Sequence[tuple[Conversation, Path]],
    batch_size: int,
    max_new_tokens: int,
    should_stop: Callable[[], bool],
) -> Iterator[str]:
    """Yield the answer to each conversation's first question with the picture beside it, until `should_stop`."""
    engine = Engine(loaded, CaptureSpec((), max_new_tokens))
    prompter = Prompter(checkpoint=loaded.checkpoint, answer_tokens=max_new_tokens)
    prompts = (
        prompter.prompt(
            Sample(
                question_id=f"{own.source}/{own.key}", image_id=str(path), question=own.turns[0].question, answer=""
            ),
            load_image(path),
        )
        for own, path in conversations
    )
    for batch in _in_batches(prompts, batch_size):
        if should_stop():
            return
        yield from (row.answer for row in engine.run(batch))


def _in_batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _is_right(answer: str, truth: str, question: str) -> bool | None:
    label = judge(answer, truth, question=question).label
    return None if label is None else label == RIGHT
