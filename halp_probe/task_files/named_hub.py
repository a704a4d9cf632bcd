"""Rows of benchmarks that come through the package `datasets`: CaptionQA, and those in the form of lmms-eval."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from halp_probe.catalog.benchmark import QUESTIONS, Benchmark, File, TextFile, Values
from halp_probe.catalog.captionqa import PARTS
from halp_probe.catalog.entries import LMMS_EVAL
from halp_probe.errors import InputError
from halp_probe.labels.letters import LETTERS
from halp_probe.task_files.captionqa_rows import read_rows
from halp_probe.task_files.named_files import Row
from halp_probe.task_files.splits import ALL, open_splits
from halp_probe.tasks.caption_qa import prompt
from halp_probe.tasks.caption_qa_items import AskingOptions, make_items

_CAPTIONQA = "Borise/CaptionQA"


class HubRows:
    """A data set of the hub, or a folder of it, as the source of a benchmark's rows.

    `pictures` is the folder for those of CaptionQA; None: they are not written, and called by their rows' ids.
    """

    def __init__(self, benchmark: Benchmark, parts: tuple[str, ...], root: Path | None, pictures: Path | None) -> None:
        self.benchmark, self.parts, self.root, self._pictures = benchmark, parts, root, pictures
        self.counts: dict[File, int] = {}
        self.notes: list[str] = []
        self.place = benchmark.title
        self.not_asked: list[str] = []
        self.folder: Path | None = None  # of relative names of pictures

    def rows(self, role: str = QUESTIONS) -> Iterator[tuple[str, Values]]:
        """Yield each row, with the split that it is in. Raises InputError for a data set that cannot be read."""
        if self.benchmark.name.startswith(LMMS_EVAL):
            yield from self._lmms_eval(self.benchmark.name.partition(":")[2])
        else:
            yield from self._captionqa(str(self.root or _CAPTIONQA))

    def texts(self) -> Iterator[tuple[str, TextFile]]:
        """Yield nothing: there are no texts."""
        return iter(())

    def note(self, text: str) -> None:
        """Keep what a reader must know of how the rows were read."""
        self.notes.append(text)

    def _lmms_eval(self, repository: str) -> Iterator[tuple[str, Values]]:
        if not self.parts:
            raise InputError(f"`dataset` {LMMS_EVAL}:{repository} needs its split: {LMMS_EVAL}:{repository}:test")
        local = None if self.root is None else self.root / repository
        dataset = str(local) if local is not None and local.exists() else repository
        for part in self.parts:
            for split in open_splits(dataset, part, (part,)):
                self.folder = split.folder
                for number, row in enumerate(split.rows(), 1):
                    self.place = f"{repository}, {part}, row {number}"
                    yield part, Row(row, self.place, self.benchmark)

    def _captionqa(self, dataset: str) -> Iterator[tuple[str, Values]]:
        rows = [row for split in self._splits() for row in read_rows(dataset, split, self._pictures)]
        items, failures = make_items(rows, AskingOptions())
        self.not_asked = [failure.reason for failure in failures]
        for item in items:
            sample = prompt(item)
            values: dict[str, Any] = {
                **sample.extra,
                "question_id": item.key,
                "image": sample.image_id,
                "question": sample.question,
                "answer": LETTERS[item.right],
                "row": item.image_id,
            }
            yield item.split, values

    def _splits(self) -> tuple[str, ...]:
        return (ALL,) if set(self.parts) == set(PARTS) else self.parts
