"""The shards and the journal of one extraction: nothing finished is lost, nothing is stored twice.

A finished batch goes to `journal/` at once; when enough samples have been attempted, the journal's samples become a
shard and their journal files go. What is done is read from the files themselves, never counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from halp_probe.shards.columns import DIFFERENCE_HASH, Columns
from halp_probe.shards.names import part_number, shard_name
from halp_probe.shards.parts import Part, PartWriter, write_part
from halp_probe.shards.reader import JOURNAL, ShardError, Shards, open_shards, read_columns
from halp_probe.shards.writer import FORMAT, sync_folder, write_shard
from halp_probe.state_identity import SAME_RUN, StateIdentity

OWN_PROCESS = 500  # samples a shard from which its question view is worth a process
_LENGTHS = ("prompt_tokens", "token_index/vision")


@dataclass(frozen=True, kw_only=True)
class StoredSample:
    """Facts about a sample when it was captured, to check whether they still hold."""

    texts: dict[str, str]  # as `table_texts` gives them
    image_sha256: str
    prompt_tokens: int
    prefix_tokens: int  # up to the image's end


class RunFolder:
    """Folder of one extraction. `order` holds the run's question ids in the order that shards follow."""

    def __init__(
        self,
        path: Path,
        slug: str,
        order: Sequence[str],
        *,
        interval: int = 1000,
        attributes: Mapping[str, Any] | None = None,
        question_view: bool = True,
        store_dtype: str = "float32",
    ) -> None:
        self.path, self.slug, self.interval = path, slug, interval
        self._place = {question_id: place for place, question_id in enumerate(order)}
        self._attributes, self._question_view, self._store_dtype = attributes or {}, question_view, store_dtype
        self._journal = path / JOURNAL
        self._journal.mkdir(parents=True, exist_ok=True)
        self.done: dict[str, StoredSample] = {}
        self._journal_rows: dict[str, tuple[Path, int]] = {}  # question id -> its journal file and row
        self._writing: Part | None = None  # taken out of _journal_rows, not yet a shard
        self._writer: PartWriter | None = None
        self._remove_partial_files()
        self._read_shards()
        self._read_journal()

    def append(self, columns: Columns) -> None:
        """Store a finished batch in the journal."""
        last = max((int(file.stem) for file in self._journal_files()), default=0)
        path = self._journal / f"{last + 1:08d}.h5"
        write_shard(path, columns, {}, question_view=False)
        self._note(columns.texts, columns.numbers)
        self._journal_rows.update({question_id: (path, row) for row, question_id in enumerate(columns.question_ids)})

    def flush(self, attempted: int, *, final: bool = False) -> None:
        """Write full shards from the journal; with `final` also the last, smaller one.

        Only samples among the first `attempted` of the order are taken: no more of those can arrive. A large shard may
        appear later, at the latest with the final flush or `close`.
        """
        ready = sorted((q for q in self._journal_rows if self._place[q] < attempted), key=self._place.__getitem__)
        while len(ready) >= self.interval or (final and ready):
            self._finish()
            self._write(tuple(ready[: self.interval]))
            ready = ready[self.interval :]
        if final:
            self.close()
            if not any(self._journal.iterdir()):
                self._journal.rmdir()

    def close(self) -> None:
        """Finish the shard that is being written, and end the writer process; the next shard starts a new one."""
        try:
            self._finish()
        finally:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def shards(self) -> list[Path]:
        """Return the finished shards in the order of their parts."""
        numbered = [(part_number(path.name), path) for path in self.path.glob("*.h5") if not path.name.startswith(".")]
        return [path for number, path in sorted((n, p) for n, p in numbered if n is not None)]

    def _write(self, question_ids: tuple[str, ...]) -> None:
        """Begin a shard of these samples; a small one is written before this returns."""
        rows: dict[Path, list[int]] = {}
        for question_id in question_ids:
            path, row = self._journal_rows.pop(question_id)
            rows.setdefault(path, []).append(row)
        number = max((part_number(path.name) or 0 for path in self.shards()), default=0) + 1
        name = shard_name(self.slug, number)
        temporary = self.path / f".{name}.{os.getpid()}.partial"
        part = Part(
            name=name,
            temporary=temporary,
            rows=rows,
            question_ids=question_ids,
            attributes=self._attributes,
            question_view=self._question_view,
            store_dtype=self._store_dtype,
        )
        if self._question_view and len(question_ids) >= OWN_PROCESS:
            self._writer = self._writer or PartWriter()
            self._writer.start(part)
            self._writing = part
        else:
            write_part(part)
            self._publish(part)

    def _finish(self) -> None:
        """Wait for the shard that is being written. Its error is raised once; its journal stays."""
        part, self._writing = self._writing, None
        if part is not None and self._writer is not None:
            self._writer.wait()
            self._publish(part)

    def _publish(self, part: Part) -> None:
        """Give a written shard its name, and remove its samples from the journal."""
        part.temporary.replace(self.path / part.name)
        sync_folder(self.path)
        self._drop_spent_journal_files()

    def _drop_spent_journal_files(self) -> None:
        needed = {path for path, _row in self._journal_rows.values()}
        for path in self._journal_files():
            if path not in needed:
                path.unlink()
        sync_folder(self._journal)

    def _remove_partial_files(self) -> None:
        """Remove what a killed run had not finished writing."""
        for folder in (self.path, self._journal):
            for path in folder.glob(".*.partial"):
                path.unlink()

    def _read_shards(self) -> None:
        for path in self.shards():
            shards = open_shards(path)
            self._check_same_states(shards)
            texts = {name: shards.text(name) for name in shards.text_columns}
            repeated = next((question_id for question_id in shards.question_ids if question_id in self.done), None)
            if repeated is not None:
                raise ShardError(f"question id {repeated!r} is in two shards of {self.path}; remove one of them")
            self._note(texts, {name: shards.numbers(name) for name in _LENGTHS})

    def _check_same_states(self, shards: Shards) -> None:
        """Raise ShardError for states that are not of the kind that this run adds."""
        if not self._attributes:
            return
        here = StateIdentity.of_shards({"format": FORMAT, **self._attributes})
        if found := StateIdentity.of_shards(shards.attributes).differences(here, SAME_RUN):
            raise ShardError(
                f"{shards.files[0]} holds states of another kind than this run's: "
                f"{'; '.join(each.between('there', 'now') for each in found)}; choose another `output_dir`"
            )

    def _read_journal(self) -> None:
        for path in self._journal_files():
            columns = read_columns(path)
            fresh = [row for row, question_id in enumerate(columns.question_ids) if question_id not in self.done]
            taken = columns.take(fresh)
            self._note(taken.texts, taken.numbers)
            self._journal_rows.update({columns.question_ids[row]: (path, row) for row in fresh})
        self._drop_spent_journal_files()

    def _note(self, texts: dict[str, list[str]], numbers: dict[str, np.ndarray]) -> None:
        names = [name for name in texts if name not in ("question_id", "answer", "image_sha256", DIFFERENCE_HASH)]
        for row, question_id in enumerate(texts["question_id"]):
            self.done[question_id] = StoredSample(
                texts={name: texts[name][row] for name in names},
                image_sha256=texts["image_sha256"][row],
                prompt_tokens=int(numbers["prompt_tokens"][row]),
                prefix_tokens=int(numbers["token_index/vision"][row]) + 1,
            )

    def _journal_files(self) -> Iterator[Path]:
        yield from sorted(path for path in self._journal.glob("*.h5") if not path.name.startswith("."))
