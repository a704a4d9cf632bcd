"""Trees of groups of images: `<root>/<mission>/{审核通过|审核不通过}/<group>/*.{jpg,jpeg,png}`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from halp_probe.engine.images import ImageFolder, ImagesDir
from halp_probe.errors import InputError
from halp_probe.records import Failure
from halp_probe.tasks.missions import did_you_mean, missions, nfc
from halp_probe.tasks.stage_groups import LABEL_FOLDERS, Group

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_STAGE = "table"  # stage of a failure before any image is opened


@dataclass(frozen=True)
class Tree:
    """Groups of images by label, then in natural order; `failures` are folders that cannot become groups."""

    groups: tuple[Group, ...]
    failures: tuple[Failure, ...]


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a sort key by which `img2` precedes `img10`; names that differ only in case or zeros stay distinct."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if at % 2 else part.casefold() for at, part in enumerate(parts)], name


def read_tree(images_dir: ImagesDir, mission: str) -> Tree:
    """Read the groups of one mission. Hidden files and files of other types are skipped.

    Raises InputError where the folders do not have this layout. A group without images, or one that cannot be read or
    is a link out of the tree that the folder does not allow, becomes a failure.
    """
    root = images_dir if isinstance(images_dir, ImageFolder) else ImageFolder(images_dir)
    if root.allow_links:
        root = replace(root, path=root.path.resolve())  # groups are named from there
    folder = _mission_folder(root, mission)
    groups: list[Group] = []
    failures: list[Failure] = []
    folders = _label_folders(root, folder)
    for name, label in LABEL_FOLDERS.items():
        for path in _entries(folders[name]) if name in folders else []:
            found = _group(root, path, nfc(mission), label)
            if isinstance(found, Group):
                groups.append(found)
            elif found is not None:
                failures.append(found)
    if not groups:
        first = f"; {failures[0].question_id}: {failures[0].reason}" if failures else ""
        raise InputError(
            f"{folder} holds no group: put images into {'|'.join(LABEL_FOLDERS)}/<group>/*.{{jpg,jpeg,png}}{first}"
        )
    return Tree(tuple(groups), tuple(failures))


def _mission_folder(root: ImageFolder, mission: str) -> Path:
    if not root.path.is_dir():
        raise InputError(f"`data_root` {root} is not a folder; pass the folder that holds one for each mission")
    there = {nfc(path.name): path for path in _entries(root.path) if path.is_dir()}
    if nfc(mission) in there:
        return _inside(root, there[nfc(mission)])
    if nfc(root.path.resolve().name) == nfc(mission):
        raise InputError(f"`data_root` {root} is the mission's own folder; pass the folder above it")
    raise InputError(
        f"{root} has no folder {mission!r}{did_you_mean(mission, there)}; there are {', '.join(there) or 'none'}; "
        f"supported missions are {', '.join(missions())}"
    )


def _label_folders(root: ImageFolder, mission_folder: Path) -> dict[str, Path]:
    """Return the folders by label name.

    Raises InputError for a folder of another name: its groups would be left out silently.
    """
    found = {}
    for path in _entries(mission_folder):
        if not path.is_dir():
            continue
        if nfc(path.name) not in LABEL_FOLDERS:
            raise InputError(
                f"{mission_folder} has a folder {path.name!r}, whose label is unknown; name it "
                f"{' or '.join(LABEL_FOLDERS)}, or move it elsewhere"
            )
        found[nfc(path.name)] = _inside(root, path)
    return found


def _group(root: ImageFolder, path: Path, mission: str, label: str) -> Group | Failure | None:
    """Return the group in a folder, or why it cannot be one; None for a file that is not an image."""
    key = f"{label}/{_printable(path.name)}"
    if not path.is_dir():
        loose = path.is_symlink() or _is_image(path)
        return (
            Failure(question_id=key, stage=_STAGE, reason="lies beside the groups, not in a group's folder")
            if loose
            else None
        )
    try:
        folder = _inside(root, path)
        images = [file for file in _entries(path) if _is_image(file)]
        for image in images:
            _inside(root, image)
    except InputError as error:
        return Failure(question_id=key, stage=_STAGE, reason=str(error))
    if not images:
        return Failure(question_id=key, stage=_STAGE, reason=f"has no image of the types {', '.join(IMAGE_SUFFIXES)}")
    odd = next((name for name in [path.name, *(image.name for image in images)] if _printable(name) != name), None)
    if odd is not None:
        return Failure(
            question_id=key, stage=_STAGE, reason=f"has a name that is not UTF-8: {_printable(odd)}; rename it"
        )
    names = tuple(image.name for image in images)
    return Group(
        mission=mission,
        label=label,
        group_id=path.name,
        images=names,
        folder=folder.relative_to(root.path.resolve()).as_posix(),
    )


def _entries(folder: Path) -> Sequence[Path]:
    """Return the visible entries of a folder, in natural order. Raises InputError where it cannot be read."""
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]  # noqa: PTH208
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}; check its permissions") from error
    return [folder / name for name in sorted(names, key=natural_key)]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _inside(root: ImageFolder, path: Path) -> Path:
    """Return the path with its links followed, or as it is if the root allows them.

    Raises InputError where that leaves the root.
    """
    if root.allow_links:
        return path
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as error:  # links in a circle
        raise InputError(f"{path} cannot be followed: {error}") from error
    if not resolved.is_relative_to(root.path.resolve()):
        raise InputError(
            f"{path} is a link that leads out of {root}; put what it links to into the tree, or trust its links with "
            "`allow_links=True`"
        )
    return resolved


def _printable(name: str) -> str:
    """Return the name with bytes that are not UTF-8 escaped, since no file of ours could hold them."""
    return name.encode("utf-8", "backslashreplace").decode()
