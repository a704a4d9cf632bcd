"""Steps of a long work that are not done again: what each was made from, in one JSON file, written as it goes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from halp_probe.errors import InputError
from halp_probe.json_files import read_json, write_json

_INPUTS, _DONE = "inputs", "done"


class Steps:
    """Record of steps in a file: the inputs that each was begun with, and what it left when it was done."""

    def __init__(self, path: Path) -> None:
        """Read the record, if there is one. Raises InputError for a file that is something else."""
        self._path = path
        self._steps: dict[str, dict[str, Any]] = {}
        if path.exists():
            found = read_json(path, "move it away, and all steps are done again")
            if not isinstance(found, dict) or not all(isinstance(step, dict) for step in found.values()):
                raise InputError(f"{path} is no record of steps; move it away, and all steps are done again")
            self._steps = found

    def inputs(self, step: str) -> Mapping[str, Any]:
        """Return the inputs that a step was last begun with; {} if it never was."""
        inputs: Mapping[str, Any] = self._steps.get(step, {}).get(_INPUTS, {})
        return inputs

    def result(self, step: str, inputs: Mapping[str, Any]) -> Any:
        """Return what a step left that was done with just these inputs; None if it is to be done."""
        recorded = self._steps.get(step, {})
        return recorded.get(_DONE) if recorded.get(_INPUTS) == inputs else None

    def last(self, step: str) -> Any:
        """Return what a step left when it was last done, with whatever inputs; None if it was begun since."""
        return self._steps.get(step, {}).get(_DONE)

    def begin(self, step: str, inputs: Mapping[str, Any]) -> None:
        """Record that a step begins with these inputs, which are JSON values."""
        self._write(step, {_INPUTS: dict(inputs)})

    def finish(self, step: str, result: Any) -> None:
        """Record that the step is done, and what it left: a JSON value other than null."""
        self._write(step, {**self._steps[step], _DONE: result})

    def _write(self, step: str, record: dict[str, Any]) -> None:
        self._steps[step] = record
        write_json(self._path, self._steps)


def fingerprint(value: Any) -> str:
    """Return the SHA-256 of a value as JSON; what JSON does not have goes in as its `str`."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True, default=str).encode()).hexdigest()


def files_fingerprint(paths: Iterable[Path]) -> str:
    """Return the fingerprint of files by name and size, without reading them; those that are not there count too."""
    return fingerprint([[path.name, path.stat().st_size if path.is_file() else None] for path in sorted(paths)])


def content_fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file's content; "" if it is not there."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
