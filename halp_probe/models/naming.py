"""Names of checkpoints: hub names, folders and bundled models, and whether two of them mean one model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from halp_probe.models.fingerprints import local_revision

_PACKAGE = Path(__file__).parents[1]
BUNDLED = "shapes"
BUNDLED_FOLDER = _PACKAGE / "shapes" / "bundled"
BUNDLED_PROBES = _PACKAGE / "shapes" / "probes"  # probes on its states
_FOLDERS = {  # folders in the package by name: a whole model, and the parts of one
    BUNDLED: BUNDLED_FOLDER,
    "shapes-vit": _PACKAGE / "shapes" / "parts" / "vit",
    "shapes-lm": _PACKAGE / "shapes" / "parts" / "lm",
}
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_SNAPSHOT = re.compile(r"(?:.*/)?models--([\w.-]+?)--([\w.-]+)/snapshots/([0-9a-f]{40})/?")


@dataclass(frozen=True)
class ModelName:
    """Name of a model that is the same on any machine, and the commit if the name contained one."""

    name: str  # a bundled name, owner/model, or a folder
    revision: str | None = None

    @property
    def folder(self) -> Path | None:
        """Folder on this machine; None for a hub name and for a folder that does not exist here."""
        path = Path(source_of(self.name))
        return path if path.is_dir() else None

    @property
    def on_hub(self) -> bool:
        """Return whether this is a hub name."""
        return self.folder is None and _HUB_NAME.fullmatch(self.name) is not None


def source_of(name: str) -> str:
    """Return what transformers can load: the folder of a bundled name, else the name itself."""
    return str(_FOLDERS.get(name, name))


def parse_name(name: str) -> ModelName:
    """Parse a name: a bundled folder in any installation becomes its name, a snapshot in a hub's cache owner/model."""
    path = Path(name)
    for bundled, folder in _FOLDERS.items():
        inside = folder.relative_to(_PACKAGE.parent).parts
        if path.parts[-len(inside) :] == inside:
            return ModelName(bundled)
    if snapshot := _SNAPSHOT.fullmatch(path.as_posix()):
        return ModelName(f"{snapshot[1]}/{snapshot[2]}", snapshot[3])
    return ModelName(name)


def same_model(one: str, other: str) -> bool:
    """Return whether two names mean one model, as far as this machine can decide.

    Two folders on this machine are compared by path, then by the content of their files; two hub names by owner and
    name. Otherwise, as for a folder that was moved, or downloaded from the hub, the last parts of the names are
    compared.
    """
    a, b = parse_name(one), parse_name(other)
    if a.folder is not None and b.folder is not None:
        return a.folder.samefile(b.folder) or local_revision(a.folder) == local_revision(b.folder)
    if a.on_hub and b.on_hub:
        return a.name.casefold() == b.name.casefold()
    return _last_part(a.name) == _last_part(b.name)


def same_name_only(one: str, other: str) -> bool:
    """Return whether nothing but the last parts of two names says that they mean one model."""
    a, b = parse_name(one), parse_name(other)
    alike = a.name == b.name or (a.folder is not None and b.folder is not None) or (a.on_hub and b.on_hub)
    return not alike and _last_part(a.name) == _last_part(b.name)


def _last_part(name: str) -> str:
    return Path(name).name.casefold()
