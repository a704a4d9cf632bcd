"""Names of checkpoints: hub names, folders, what is bundled, and whether two of them name one model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from halp_probe.models.fingerprints import local_revision

_PACKAGE = Path(__file__).parents[1]
BUNDLED = "shapes"
BUNDLED_FOLDER = _PACKAGE / "shapes" / "bundled"
BUNDLED_PROBES = _PACKAGE / "shapes" / "probes"  # of its states
_FOLDERS = {  # what ships with the package, by name: a whole model, and the parts of one
    BUNDLED: BUNDLED_FOLDER,
    "shapes-vit": _PACKAGE / "shapes" / "parts" / "vit",
    "shapes-lm": _PACKAGE / "shapes" / "parts" / "lm",
}
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_SNAPSHOT = re.compile(r"(?:.*/)?models--([\w.-]+?)--([\w.-]+)/snapshots/([0-9a-f]{40})/?")


@dataclass(frozen=True)
class ModelName:
    """A model as it is called on any machine, and the commit where the name held one."""

    name: str  # a bundled one's, owner/model, or a folder
    revision: str | None = None

    @property
    def folder(self) -> Path | None:
        """Where it lies on this machine; None for a hub name and for a folder that is not here."""
        path = Path(source_of(self.name))
        return path if path.is_dir() else None

    @property
    def on_hub(self) -> bool:
        return self.folder is None and _HUB_NAME.fullmatch(self.name) is not None


def source_of(name: str) -> str:
    """What transformers loads under this name: the folder of what is bundled, else the name itself."""
    return str(_FOLDERS.get(name, name))


def parse_name(name: str) -> ModelName:
    """A bundled name for its folder in any installation, owner/model for a snapshot in a hub's cache."""
    path = Path(name)
    for bundled, folder in _FOLDERS.items():
        inside = folder.relative_to(_PACKAGE.parent).parts
        if path.parts[-len(inside) :] == inside:
            return ModelName(bundled)
    if snapshot := _SNAPSHOT.fullmatch(path.as_posix()):
        return ModelName(f"{snapshot[1]}/{snapshot[2]}", snapshot[3])
    return ModelName(name)


def same_model(one: str, other: str) -> bool:
    """Whether two names mean one model, as far as that can be told here.

    Two folders that are both here: by place, or by the content of their files. Two hub names: by owner and name. Else,
    where a folder was moved, renamed from or downloaded under a hub name: by the last part of the name.
    """
    a, b = parse_name(one), parse_name(other)
    if a.folder is not None and b.folder is not None:
        return a.folder.samefile(b.folder) or local_revision(a.folder) == local_revision(b.folder)
    if a.on_hub and b.on_hub:
        return a.name.casefold() == b.name.casefold()
    return _last_part(a.name) == _last_part(b.name)


def _last_part(name: str) -> str:
    return Path(name).name.casefold()
