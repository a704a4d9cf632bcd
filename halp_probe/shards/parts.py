"""A shard made from journal files, in a process of its own when it is large: the question view takes a while."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from halp_probe.shards.columns import concatenate
from halp_probe.shards.reader import ShardError, read_columns
from halp_probe.shards.writer import write_shard

_NICENESS = 10  # the model comes first


@dataclass(frozen=True, kw_only=True)
class Part:
    """What goes into one shard, and how it is written."""

    name: str  # of the finished file
    temporary: Path  # where it is written: whoever asked for it renames it, so that no orphan does
    rows: Mapping[Path, list[int]]  # of journal files
    question_ids: tuple[str, ...]  # the same samples in the shard's order
    attributes: Mapping[str, Any]
    question_view: bool
    store_dtype: str


def write_part(part: Part) -> None:
    """Raises what `write_shard` does."""
    gathered = concatenate([read_columns(path).take(rows) for path, rows in part.rows.items()])
    where = {question_id: row for row, question_id in enumerate(gathered.question_ids)}
    columns = gathered.take([where[question_id] for question_id in part.question_ids])
    write_shard(
        part.temporary, columns, part.attributes, question_view=part.question_view, store_dtype=part.store_dtype
    )


class PartWriter:
    """A process that writes one part at a time. It ends with this process, even a killed one, or with `close`."""

    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        # In a session of its own, so that no signal to the run's group reaches it.
        # Neither a fork, which would have the model's memory and threads, nor a spawn, which imports the main script.
        serving = f"from halp_probe.shards import parts; parts.serve({theirs.fileno()})"
        call = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {serving}"]
        self._process = subprocess.Popen(call, pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()

    def start(self, part: Part) -> None:
        self._pipe.send(part)

    def wait(self) -> None:
        """Until the part is written. Raises what `write_part` raised, and ShardError when the process died."""
        try:
            error = self._pipe.recv()
        except (EOFError, ConnectionError):
            raise ShardError(
                "the process that writes shards died, perhaps for want of memory; nothing captured is lost: run the "
                "same command again with a smaller `checkpoint_interval`"
            ) from None
        if error is not None:
            raise error

    def close(self) -> None:
        self._pipe.close()
        self._process.wait()


def serve(descriptor: int) -> None:
    """In the process: parts come through this end of a pipe, None or an error goes back for each."""
    pipe: Connection[Exception | None, Part] = Connection(descriptor)
    os.nice(_NICENESS)
    while True:
        try:
            part = pipe.recv()
        except (EOFError, ConnectionError):
            return
        error: Exception | None = None
        try:
            write_part(part)
        except Exception as raised:  # told to who asked, who raises it
            error = raised
        try:
            pipe.send(error)
        except OSError:  # who asked is gone
            part.temporary.unlink(missing_ok=True)
            return
