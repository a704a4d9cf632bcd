"""Task, the one shape of all tasks: a dataclass for the items and three pure functions, prompt, parse and judge."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, TypeVar

from halp_probe.engine.images import ImagesDir
from halp_probe.labels.verdict import Verdict
from halp_probe.records import Failure, Sample

ITEM_COLUMN = "task_item"

Item = TypeVar("Item")
Parsed = TypeVar("Parsed")


@dataclass(frozen=True, kw_only=True)
class Task(Generic[Item, Parsed]):
    """Kind of question.

    Items are frozen dataclasses whose fields are JSON values (str, int, float, bool, None) or tuples of them, so that a
    shard can hold them as text and `item_type(**fields)` makes them again.
    """

    name: str
    item_type: type[Item]
    prompt: Callable[[Item], Sample]  # its `question_id` is the item's key, `question` all of the user's text
    parse: Callable[[Item, str], Parsed]  # what a reply says; for any text, without raising
    judge: Callable[[Item, Parsed], Verdict]  # label 0 right, 1 hallucinated, None unknown
    system: str | None = None  # the system message, if there is one
    again: Callable[[Item, Parsed], Sample | None] | None = None  # the prompt to ask once more after a bad reply
    cut_off: Parsed | None = None  # reading of a reply that was cut off at the token limit; None: parse it all the same

    def sample(self, item: Item) -> Sample:
        """Return the item's prompt, with the item itself in one more column; a sample is its own prompt."""
        sample = self.prompt(item)
        if isinstance(item, Sample):
            return sample
        return replace(sample, extra={**sample.extra, ITEM_COLUMN: item_json(item)})

    def read(self, item: Item, reply: str, *, finished: bool) -> Parsed:
        """Return what one reply says; `finished`: it was not cut off at the token limit."""
        return self.parse(item, reply) if finished or self.cut_off is None else self.cut_off

    def verdict(self, item: Item, reply: str, *, finished: bool = True) -> Verdict:
        """Judge one reply."""
        return self.judge(item, self.read(item, reply, finished=finished))

    def item(self, text: str) -> Item:
        """Return the item that `sample` stored as text. Raises ValueError or TypeError for any other text."""
        return self.item_type(**{name: _freeze(value) for name, value in json.loads(text).items()})


@dataclass(frozen=True, kw_only=True)
class TaskInput(Generic[Item, Parsed]):
    """Input of a run: the items in order, rows that cannot become items and why, and the folder of images."""

    task: Task[Item, Parsed]
    items: Sequence[Item]
    failures: Sequence[Failure]
    images_dir: ImagesDir
    origin: Mapping[str, Any] = field(default_factory=dict)  # of the items, for a run's record; JSON values
    about: Mapping[str, Any] = field(default_factory=dict)  # settings of the prompts, such as `seed`; JSON values

    @property
    def settings(self) -> dict[str, Any]:
        """Entries of a run's record about its task; empty for plain VQA."""
        if self.task.item_type is Sample:
            return {}
        return {"task": self.task.name, **{f"task_{name}": value for name, value in self.about.items()}}


def item_json(item: Any) -> str:
    """Encode the item's fields as JSON."""
    return json.dumps(asdict(item), ensure_ascii=False, sort_keys=True)


def _freeze(value: Any) -> Any:
    return tuple(map(_freeze, value)) if isinstance(value, list) else value
