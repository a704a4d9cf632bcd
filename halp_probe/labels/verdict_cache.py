"""Verdicts of judge models kept in a JSONL file: one line each, appended as they come, found by content hash."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from halp_probe.files import encode_text
from halp_probe.labels.judge_prompt import VERDICTS
from halp_probe.labels.table import LabelError


@dataclass(frozen=True, kw_only=True)
class StoredVerdict:
    """Line of the file. `key`: see `verdict_key`; `problem`: as in `ParsedVerdict`; `reply`: the judge's own words."""

    key: str
    verdict: str
    problem: str
    reply: str
    model: str
    served_model: str
    prompt_sha256: str
    date: str


class VerdictCache:
    """Verdicts of one file; `add` may be called from several threads.

    A last line that a killed run left half-written is cut off, and `note` then says so; the first verdict of a key
    counts. Raises LabelError for any other line that is not a cached verdict.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.note = ""
        self._lock = threading.Lock()
        self._verdicts: dict[str, StoredVerdict] = {}
        self._read()

    def get(self, key: str) -> StoredVerdict | None:
        """Return the verdict of a key; None if there is none yet."""
        return self._verdicts.get(key)

    def add(self, verdict: StoredVerdict) -> None:
        """Store a verdict; it is on disk before this returns."""
        line = json.dumps(asdict(verdict), ensure_ascii=False) + "\n"
        with self._lock:
            self._verdicts.setdefault(verdict.key, verdict)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(encode_text(line))

    def _read(self) -> None:
        if not self.path.exists():
            return
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise LabelError(f"{self.path} cannot be read: {error.strerror}; pass a file to `judge_cache`") from error
        whole, _, torn = data.rpartition(b"\n")
        if torn:
            with self.path.open("r+b") as file:
                file.truncate(len(data) - len(torn))
            self.note = f"{self.path.name}: its last line was half-written and is left out; that verdict is asked again"
        for n, line in enumerate(whole.split(b"\n") if whole else [], start=1):
            verdict = self._parse(line, n)
            self._verdicts.setdefault(verdict.key, verdict)

    def _parse(self, line: bytes, n: int) -> StoredVerdict:
        try:
            record = json.loads(line)
            if set(record) != {field.name for field in fields(StoredVerdict)} or record["verdict"] not in VERDICTS:
                raise ValueError("its keys or its verdict are not those of this file")
            return StoredVerdict(**record)
        except (ValueError, TypeError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
            raise LabelError(
                f"{self.path}, line {n} is not a stored verdict ({error}); delete it, or pass another `judge_cache`"
            ) from error
