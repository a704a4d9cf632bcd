"""The one shape of all tasks: a dataclass for the items and three pure functions, prompt, parse and judge."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from halp_probe.labels.verdict import Verdict
from halp_probe.records import Failure, Sample

ITEM_COLUMN = "task_item"

Item = TypeVar("Item")
Parsed = TypeVar("Parsed")


@dataclass(frozen=True, kw_only=True)
class Task(Generic[Item, Parsed]):
    """One kind of question.

    Items are frozen dataclasses whose fields are JSON values (str, int, float, bool, None) or tuples of such, so that a
    shard can hold them as text and `item_type(**fields)` makes them again.
    """

    name: str
    item_type: type[Item]
    prompt: Callable[[Item], Sample]  # its `question_id` is the item's key, `question` all of the user's text
    parse: Callable[[Item, str], Parsed]  # what a reply says; for any text at all, without raising
    judge: Callable[[Item, Parsed], Verdict]  # label 0 right, 1 hallucinated, None unknown
    system: str | None = None  # the system message; None: none
    again: Callable[[Item, Parsed], Sample | None] | None = None  # the prompt to ask once more after a bad reply
    cut_off: Parsed | None = None  # what a reply says that was cut off at the token limit; None: what can be read of it

    def sample(self, item: Item) -> Sample:
        """The item's prompt, with the item itself as one more column; a sample is its own."""
        sample = self.prompt(item)
        if isinstance(item, Sample):
            return sample
        return replace(sample, extra={**sample.extra, ITEM_COLUMN: item_json(item)})

    def read(self, item: Item, reply: str, *, finished: bool) -> Parsed:
        """What one reply says; `finished`: it was not cut off at the token limit."""
        return self.parse(item, reply) if finished or self.cut_off is None else self.cut_off

    def verdict(self, item: Item, reply: str, *, finished: bool = True) -> Verdict:
        """What the task says of one reply."""
        return self.judge(item, self.read(item, reply, finished=finished))

    def item(self, text: str) -> Item:
        """From what `sample` stored. Raises ValueError or TypeError for another text."""
        return self.item_type(**{name: _frozen(value) for name, value in json.loads(text).items()})


@dataclass(frozen=True, kw_only=True)
class TaskInput(Generic[Item, Parsed]):
    """All that a run asks: the items in order, the rows that can be none and why, and where the images lie."""

    task: Task[Item, Parsed]
    items: Sequence[Item]
    failures: Sequence[Failure]
    images_dir: Path
    about: Mapping[str, Any] = field(default_factory=dict)  # what shaped the prompts, as `seed`; JSON values

    @property
    def settings(self) -> dict[str, Any]:
        """What a run's record says of its task; nothing for plain VQA."""
        if self.task.item_type is Sample:
            return {}
        return {"task": self.task.name, **{f"task_{name}": value for name, value in self.about.items()}}


def item_json(item: Any) -> str:
    """The item's fields as JSON."""
    return json.dumps(asdict(item), ensure_ascii=False, sort_keys=True)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
