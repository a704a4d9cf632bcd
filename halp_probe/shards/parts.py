"""Writing of a shard from journal files, in a separate process if it is large: the question view takes time."""

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
    """Contents of one shard, and how they are written."""

    name: str  # of the finished file
    temporary: Path  # where it is written; the parent process renames it, so that an orphaned writer cannot
    rows: Mapping[Path, list[int]]  # of journal files
    question_ids: tuple[str, ...]  # the same samples, in the order of the shard
    attributes: Mapping[str, Any]
    question_view: bool
    store_dtype: str


def write_part(part: Part) -> None:
    """Write one part. Raises what `write_shard` raises."""
    journaled = concatenate([read_columns(path).take(rows) for path, rows in part.rows.items()])
    where = {question_id: row for row, question_id in enumerate(journaled.question_ids)}
    columns = journaled.take([where[question_id] for question_id in part.question_ids])
    write_shard(
        part.temporary, columns, part.attributes, question_view=part.question_view, store_dtype=part.store_dtype
    )


class PartWriter:
    """A process that writes one part at a time. It ends with its parent, even if that is killed, or with `close`."""

    def __init__(self) -> None:
        self._pipe, child_end = Pipe()
        # In a session of its own, so that signals to the run's process group do not reach it.
        # Not a fork, which would copy the model's memory and threads, nor a spawn, which imports the main script.
        serving = f"from halp_probe.shards import parts; parts.serve({child_end.fileno()})"
        call = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {serving}"]
        self._process = subprocess.Popen(call, pass_fds=[child_end.fileno()], start_new_session=True)
        child_end.close()

    def start(self, part: Part) -> None:
        """Send a part to the process, which begins to write it."""
        self._pipe.send(part)

    def wait(self) -> None:
        """Wait until the part is written. Raises what `write_part` raised, and ShardError if the process died."""
        try:
            error = self._pipe.recv()
        except (EOFError, ConnectionError):
            raise ShardError(
                "the process that writes shards died, perhaps for lack of memory; nothing captured is lost: run the "
                "same command again with a smaller `checkpoint_interval`"
            ) from None
        if error is not None:
            raise error

    def close(self) -> None:
        """End the process, and wait for it."""
        self._pipe.close()
        self._process.wait()


def serve(descriptor: int) -> None:
    """Serve in the writer process: receive parts through this end of a pipe, return None or an error for each."""
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
        except Exception as raised:  # sent back to the parent, which re-raises it
            error = raised
        try:
            pipe.send(error)
        except OSError:  # the parent is gone
            part.temporary.unlink(missing_ok=True)
            return
