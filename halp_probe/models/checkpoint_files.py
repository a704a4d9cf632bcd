"""Read single small files of a checkpoint, from its folder or from the hub's cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

from halp_probe.json_files import read_json
from halp_probe.models.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class CheckpointFiles:
    """Small files of one checkpoint; a file that it does not have is None."""

    source: str  # a folder or a hub name
    commit: str | None
    cache_dir: str | None

    def path(self, name: str) -> Path | None:
        """Return the path of one file, which is fetched if the hub has it."""
        found = cached_file(
            self.source,
            name,
            revision=self.commit,
            cache_dir=self.cache_dir,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        return None if found is None else Path(found)

    def text(self, name: str) -> str | None:
        """Return the text of one file."""
        path = self.path(name)
        return None if path is None else path.read_text(encoding="utf-8")

    def content(self, name: str) -> Mapping[str, Any]:
        """Return the object in a JSON file, an empty one without the file. Raises ModelError if it is no object."""
        path = self.path(name)
        content = {} if path is None else read_json(path, "fetch or save the model again", ModelError)
        if not isinstance(content, Mapping):
            raise ModelError(f"{path} holds no JSON object; fetch or save the model again")
        return content
