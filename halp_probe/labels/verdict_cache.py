"""Verdicts of judge models kept in a JSONL file: one line each, appended as they come, found by content hash.

A text that the judge refused leaves a line `{"key": …, "failed": reason}`: no verdict, it is asked about again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from halp_probe.completion import Completion
from halp_probe.files import encode_text
from halp_probe.labels.judge_prompt import VERDICTS, parse, prompt_sha256
from halp_probe.labels.table import LabelError


@dataclass(frozen=True, kw_only=True)
class StoredVerdict:
    """Line of the file. `key`: see `verdict_key`; `problem`: as in `ParsedVerdict`; `reply`: the judge's own words.

    `left_out`: names of the settings that the model refused and that were not sent, separated by commas.
    """

    key: str
    verdict: str
    problem: str
    reply: str
    model: str
    served_model: str
    prompt_sha256: str
    date: str
    left_out: str = ""


def stored_verdict(key: str, reply: Completion, model: str, max_tokens: int, *, left_out: str = "") -> StoredVerdict:
    """Return the line that keeps a judge's reply; `max_tokens` and the prompt are those with which it was asked."""
    parsed = parse(reply)
    return StoredVerdict(
        key=key,
        verdict=parsed.verdict,
        problem=parsed.problem,
        reply=reply.text or reply.refusal,
        model=model,
        served_model=reply.served,
        prompt_sha256=prompt_sha256(max_tokens),
        date=now_utc(),
        left_out=left_out,
    )


def now_utc() -> str:
    """Return the time in ISO 8601, UTC, whole seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


_FIELDS = {field.name for field in fields(StoredVerdict)}
_LATER = {"left_out"}  # older files have none


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
        self._failed: set[str] = set()
        self._read()

    def get(self, key: str) -> StoredVerdict | None:
        """Return the verdict of a key; None if there is none yet."""
        return self._verdicts.get(key)

    def add(self, verdict: StoredVerdict) -> None:
        """Store a verdict; it is on disk before this returns."""
        with self._lock:
            self._verdicts.setdefault(verdict.key, verdict)
            self._append({name: value for name, value in asdict(verdict).items() if value or name not in _LATER})

    def failed(self, key: str) -> bool:
        """Tell whether the judge has refused the text of this key."""
        return key in self._failed

    def add_failure(self, key: str, reason: str) -> None:
        """Note that the judge refuses a text, once."""
        with self._lock:
            if key not in self._failed:
                self._failed.add(key)
                self._append({"key": key, "failed": reason})

    def _append(self, record: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(encode_text(json.dumps(record, ensure_ascii=False) + "\n"))

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
            try:
                self._take(json.loads(line))
            except (ValueError, TypeError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
                raise LabelError(
                    f"{self.path}, line {n} is not a stored verdict ({error}); delete it, or pass another `judge_cache`"
                ) from error

    def _take(self, record: Any) -> None:
        """Take one line's record. Raises ValueError or TypeError for one that is not of this file."""
        if set(record) == {"key", "failed"}:
            self._failed.add(record["key"])
        elif set(record) | _LATER == _FIELDS and record["verdict"] in VERDICTS:
            self._verdicts.setdefault(record["key"], StoredVerdict(**record))
        else:
            raise ValueError("its keys or its verdict are not those of this file")
