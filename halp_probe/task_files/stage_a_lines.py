"""`<mission>_stage_a.jsonl`: one line a group, written by Stage-A and read by Stage-B, and by other code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from halp_probe.errors import InputError
from halp_probe.files import atomic_text, encode_text
from halp_probe.task_files.json_lines import json_line, unique_members
from halp_probe.tasks.missions import mission
from halp_probe.tasks.stage_groups import FAIL, LABEL_FOLDERS, PASS, GroupLine, GroupSummaries

IMAGE_KEYS = ("图片", "image")  # 图片_1 …, image_1 …
_KEY = re.compile(rf"(?:{'|'.join(IMAGE_KEYS)})_([1-9][0-9]{{0,5}})")
_LABELS = {PASS: PASS, FAIL: FAIL, **LABEL_FOLDERS}


def as_json(line: GroupLine, image_key: str) -> dict[str, Any]:
    """Return the fields of a line. `problems` is present only where an image has no summary."""
    images = [(f"{image_key}_{index}", image) for index, image in enumerate(line.descriptions, start=1)]
    problems = {key: {"problem": image.problem, "reply": image.reply} for key, image in images if image.summary is None}
    return {
        "group_id": line.group_id,
        "mission": line.mission,
        "label": line.label,
        "images": list(line.images),
        "per_image": {key: image.summary for key, image in images if image.summary is not None},
        "timestamp": line.timestamp,
        "stage_a_complete": line.complete,
        **({"problems": problems} if problems else {}),
    }


def write_lines(path: Path, lines: Iterable[GroupLine], image_key: str) -> None:
    """Replace the file."""
    with atomic_text(path) as file:
        file.writelines(json_line(as_json(line, image_key)) for line in lines)


def append_line(path: Path, line: GroupLine, image_key: str) -> None:
    """Append one line in a single write, so that a reader sees it whole."""
    data = encode_text(json_line(as_json(line, image_key)))
    try:
        with path.open("ab", buffering=0) as file:
            file.write(data)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; free space, then run again") from error


def read_files(paths: Sequence[Path]) -> list[GroupSummaries]:
    """Read the groups of all files, in their order; blank lines are skipped.

    Both styles of image keys and of labels ("pass", "审核通过") are read; `images`, `timestamp` and
    `stage_a_complete` may be missing. Raises InputError with file and line for anything else, and for a group that
    occurs twice.
    """
    groups: list[GroupSummaries] = []
    places: dict[tuple[str, str, str], str] = {}
    for path in paths:
        before = len(groups)
        for number, row in enumerate(_text_of(path).split("\n"), start=1):
            if not row.strip():
                continue
            place = f"{path}, line {number}"
            try:
                group = _group(json.loads(row, object_pairs_hook=unique_members))
            except (ValueError, RecursionError) as error:
                raise InputError(f"{place}: {error}") from error
            key = (group.mission, group.label, group.group_id)
            if key in places:
                raise InputError(
                    f"{place}: group {group.group_id!r} occurs already ({places[key]}); delete one of them"
                )
            places[key] = place
            groups.append(group)
        if len(groups) == before:
            raise InputError(f"{path} holds no group; pass files that stage-a wrote")
    return groups


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; pass files that stage-a wrote") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error}); pass files that stage-a wrote") from error


def _group(record: Any) -> GroupSummaries:
    """Return the group of a record. Raises ValueError, saying why, for a record that is not a group."""
    if not isinstance(record, dict):
        raise ValueError("is not a JSON object")
    group_id = _name(record, "group_id")
    name = mission(_name(record, "mission")).name
    label = record.get("label")
    if not isinstance(label, str) or label not in _LABELS:
        raise ValueError(f"label {label!r} is none of {', '.join(_LABELS)}")
    images = record.get("images", [])
    if not isinstance(images, list):
        raise ValueError("images is not a list of file names")
    summaries = _summaries(record.get("per_image"))
    count = len(images) or max(summaries, default=0)
    if beyond := [index for index in summaries if index > count]:
        raise ValueError(f"per_image has an image {beyond[0]}, images only {count}")
    missing = [str(index) for index in range(1, count + 1) if index not in summaries]
    lacking = (
        f"lacks a summary of image {', '.join(missing)} of {count}" if missing else "" if count else "has no image"
    )
    complete = record.get("stage_a_complete")
    if complete is True and lacking:
        raise ValueError(f"says stage_a_complete, but {lacking}")
    if complete is False:
        lacking = lacking or "says that it is not complete"
    return GroupSummaries(
        mission=name,
        label=_LABELS[label],
        group_id=group_id,
        summaries=tuple(summaries[index] for index in sorted(summaries)),
        lacking=lacking,
    )


def _name(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} is {value!r}, not a name")
    return value


def _summaries(per_image: Any) -> dict[int, str]:
    """Return summaries by the image's index, from 1."""
    if not isinstance(per_image, dict):
        raise ValueError("per_image is not a JSON object")
    found: dict[int, str] = {}
    for key, text in per_image.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise ValueError(
                f"per_image has the key {key!r}, not {' or '.join(f'{style}_1' for style in IMAGE_KEYS)} …"
            )
        if int(match[1]) in found:
            raise ValueError(f"per_image has image {match[1]} twice")
        if not isinstance(text, str) or len(text.splitlines()) != 1 or not text.strip():
            raise ValueError(f"the summary of {key} is not one line of text")
        found[int(match[1])] = text
    return found
