"""Outcome of an extraction: what was captured, what failed, and the shards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from halp_probe.records import Failure
from halp_probe.shards.reader import Shards, open_shards


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """Outcome of an extraction: its counts, its failures, and its shards.

    Attributes
    ----------
    folder
        The output folder, with shards, `run.json` and `failures.csv`.
    captured
        Samples that this run captured.
    already_done
        Samples that earlier runs of the folder had captured.
    failures
        Rows that could not be processed, as in `failures.csv`; the next run tries them again.
    stopped
        Whether the run was stopped before its end.

    Examples
    --------
    >>> import halp_probe
    >>> extraction = halp_probe.extract("vqa.csv", "images", "out", model="shapes", limit=3)
    >>> extraction.captured + extraction.already_done
    3
    >>> extraction.shards.vectors("query_token_representation/layer_3").shape
    (3, 128)
    """

    folder: Path
    captured: int
    already_done: int
    failures: tuple[Failure, ...]
    stopped: bool

    @property
    def shards(self) -> Shards:
        """Shards of the folder, opened on each access. Raises ShardError if there are none: every row failed."""
        return open_shards(self.folder)
