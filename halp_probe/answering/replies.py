"""Replies in a JSONL file, written as they come: one line each, found by key, with the settings that produced them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from halp_probe.errors import InputError
from halp_probe.files import encode_text
from halp_probe.records import Failure, Sample
from halp_probe.settings import differences

_FORMAT = "halp_probe replies 1"
_BEGINNING = f'{{"format": "{_FORMAT}"'.encode()


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Reply of a model to one prompt."""

    key: str  # of the item
    text: str  # stripped, without special tokens
    finished: bool  # False: it was cut off at the token limit
    asked: str  # `fingerprint` of the prompt
    date: str  # of arrival: ISO 8601, UTC
    attempt: int = 1  # 2: the task asked again
    tokens: int | None = None  # number of the reply's tokens; None where a server does not report it
    image_sha256: str = ""  # this and the next two fix its place in a batch, which a resumed run keeps
    prefix_tokens: int = 0
    prompt_tokens: int = 0


class ReplyLog:
    """Replies and failures of one file. A later line of the same key and attempt replaces an earlier one.

    A last line that a killed run left half-written is removed, and its item is asked again. Raises InputError for a
    file of another format, and for one with other settings, naming every difference.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._kept: dict[tuple[str, int], Reply] = {}
        self._failed: dict[tuple[str, int], Failure] = {}
        if lines := whole_lines(path):
            self._check(lines[0], settings)
            for number, line in enumerate(lines[1:], start=2):
                self._read(line, number)
        else:
            self._write([{"format": _FORMAT, "settings": dict(settings)}])

    def replies(self, attempt: int) -> dict[str, Reply]:
        """Return the replies of this attempt by key."""
        return {key: reply for (key, number), reply in self._kept.items() if number == attempt}

    def failures(self, attempt: int) -> dict[str, Failure]:
        """Return, by key, why there is no reply of this attempt."""
        return {key: failure for (key, number), failure in self._failed.items() if number == attempt}

    def append(self, results: Sequence[Reply | Failure], attempt: int) -> None:
        """Append these results; they are on the disk when this returns."""
        lines = []
        for result in results:
            self._keep(result, attempt)
            now = {"attempt": attempt, "date": now_utc()}
            lines.append(asdict(result) if isinstance(result, Reply) else {**asdict(result), **now})
        self._write(lines)

    def _keep(self, result: Reply | Failure, attempt: int) -> None:
        key = (result.key if isinstance(result, Reply) else result.question_id, attempt)
        for kept in (self._kept, self._failed):
            kept.pop(key, None)
        if isinstance(result, Reply):
            self._kept[key] = result
        else:
            self._failed[key] = result

    def _check(self, line: bytes, settings: Mapping[str, Any]) -> None:
        stored = header_of(self.path, line)
        if found := differences(stored, json.loads(json.dumps(settings))):
            raise InputError(
                f"{self.path} holds replies that were made with other settings: {found}. Use the same ones to resume, "
                "or choose another `output_path`"
            )

    def _read(self, line: bytes, number: int) -> None:
        try:
            record = json.loads(line)
            if "reason" in record:
                self._keep(
                    Failure(question_id=record["question_id"], stage=record["stage"], reason=record["reason"]),
                    record["attempt"],
                )
            else:
                self._keep(Reply(**record), record["attempt"])
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{self.path}, line {number} is not a reply ({error}); delete the line") from error

    def _write(self, records: Sequence[Mapping[str, Any]]) -> None:
        if not records:
            return
        data = encode_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
        try:
            with self.path.open("ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror}; free space, then run again") from error


def whole_lines(path: Path) -> list[bytes]:
    """Return the file's lines, [] without a file. An unfinished last line is removed from the file.

    Raises InputError for a file that cannot be read, or whose only line is unfinished and of another format.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; choose another `output_path`") from error
    whole, end, torn = data.rpartition(b"\n")
    if torn and not end and not (torn.startswith(_BEGINNING) or _BEGINNING.startswith(torn)):
        raise InputError(f"{path} is not a file of replies; choose another `output_path`")
    if torn:
        with path.open("r+b") as file:
            file.truncate(len(data) - len(torn))
    return whole.split(b"\n") if end else []


def header_of(path: Path, line: bytes) -> dict[str, Any]:
    """Return the settings in a file's first line. Raises InputError when the line holds none."""
    try:
        record = json.loads(line)
        if record["format"] != _FORMAT:
            raise ValueError(f"format {record['format']!r}")
        settings: dict[str, Any] = record["settings"]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is not a file of replies ({error}); choose another `output_path`") from error
    return settings


def fingerprint(sample: Sample) -> str:
    """Return a hash of all that a prompt shows, so that a changed prompt does not count as answered."""
    shown = [sample.question, sample.files, *([sample.history] if sample.history else [])]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]


def now_utc() -> str:
    """Return the time in ISO 8601, UTC, whole seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
