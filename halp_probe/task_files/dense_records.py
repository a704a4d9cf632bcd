"""Input of dense captioning: records of images with or without their true objects, or a folder of images.

A record is a JSON object, one a line or in one list: `images` (file names), and optionally `objects`, `id`, `width`
and `height`. Objects in a list have pixel coordinates in the upright image; objects as grouped JSON, the form of
replies, have coordinates from 0 to 1000. The description is `desc`, or `label` as in Qwen's own lists. Places that are
fractions of 1, or grouped ones beyond 1000, are a warning and no ground truth: nobody knows what they mean. Other names
in a record, such as `summary`, are ignored.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from halp_probe.engine.images import ImagesDir, folder_path, image_path, upright_size
from halp_probe.errors import InputError
from halp_probe.records import Failure
from halp_probe.task_files.json_lines import unique_members
from halp_probe.task_files.stage_tree import natural_key
from halp_probe.tasks.dense_caption import DenseItem, default_prompt
from halp_probe.tasks.dense_object import FRACTIONS, faults, make_object, with_description
from halp_probe.tasks.geometry import FULL, DenseObject
from halp_probe.tasks.grouped_json import group_by_image, read_reply

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_STAGE = "data"
_log = logging.getLogger(__name__)
_DECIMALS = 3  # of thousandths


@dataclass(frozen=True, kw_only=True)
class DenseInput:
    """Items in the order of the file, records that cannot become items, and the folder of images."""

    items: tuple[DenseItem, ...]
    failures: tuple[Failure, ...]
    images_dir: ImagesDir


class _Unusable(ValueError):
    """The record cannot be used; the message says why."""


class _OtherUnits(ValueError):
    """The record's objects are in units that nobody knows; the message says why."""


def read_records(path: Path, images_dir: ImagesDir | None, prompt: str | None, iou: float) -> DenseInput:
    """Read the records of a JSONL file or a JSON list. Images lie in `images_dir`, or in the file's own folder.

    A record's key is its `id`, or the names of its images. `prompt`: the user's text; None: the default. A record that
    cannot be used becomes a failure. Raises InputError for a file that cannot be read, and for two records of one key.
    """
    folder = _folder(path.parent if images_dir is None else images_dir)
    items: list[DenseItem] = []
    failures: list[Failure] = []
    places: dict[str, str] = {}
    for place, record in _records(path):
        try:
            key = _key(record)
        except _Unusable as error:
            failures.append(Failure(question_id=place, stage=_STAGE, reason=str(error)))
            continue
        if key in places:
            raise InputError(
                f"{path}: {places[key]} and {place} have the key {key!r}; replies are matched by it, so give the "
                "records an `id` each"
            )
        places[key] = place
        try:
            items.append(_item(key, record, folder, prompt, iou))
        except (_Unusable, InputError) as error:  # InputError: from an image
            failures.append(Failure(question_id=key, stage=_STAGE, reason=f"{place}: {error}"))
    if not places and not failures:
        raise InputError(f"{path} holds no records")
    return DenseInput(items=tuple(items), failures=tuple(failures), images_dir=folder)


def read_folder(images_dir: ImagesDir, prompt: str | None, iou: float) -> DenseInput:
    """Read every image in a folder (not in its subfolders), one a prompt, in natural order: img2 before img10.

    The file's name is the key. Raises InputError for a folder without images.
    """
    folder = _folder(images_dir)
    names = [
        each.name
        for each in folder_path(folder).iterdir()
        if each.suffix.lower() in IMAGE_SUFFIXES and each.name[0] != "."
    ]
    if not names:
        raise InputError(f"{images_dir} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    items: list[DenseItem] = []
    failures: list[Failure] = []
    for name in sorted(names, key=natural_key):
        try:
            items.append(_item(name, {"images": [name]}, folder, prompt, iou))
        except InputError as error:
            failures.append(Failure(question_id=name, stage=_STAGE, reason=str(error)))
    return DenseInput(items=tuple(items), failures=tuple(failures), images_dir=folder)


def _folder(images_dir: ImagesDir) -> ImagesDir:
    if not folder_path(images_dir).is_dir():
        raise InputError(f"`records_images` {images_dir} is not a folder")
    return images_dir


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield each record with its place, such as `line 3`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"`records` {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    if text.lstrip().startswith("["):
        yield from ((f"record {n}", record) for n, record in enumerate(_parse(path, "it", text), start=1))
    else:
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"line {number}", _parse(path, f"line {number}", line)


def _parse(path: Path, place: str, text: str) -> Any:
    try:
        parsed = json.loads(text, object_pairs_hook=unique_members)
        json.dumps(parsed, ensure_ascii=False).encode()  # fails for half a surrogate pair, which no file can hold
        return parsed
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {place} is not usable JSON: {error}") from error


def _key(record: Any) -> str:
    if not isinstance(record, dict):
        raise _Unusable("is not a JSON object")
    names = record.get("images")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise _Unusable("`images` must be a list of file names")
    key = record.get("id", " + ".join(names))
    if isinstance(key, bool) or not isinstance(key, str | int) or not str(key).strip():
        raise _Unusable("`id` must be a text or a whole number")
    return str(key)


def _item(key: str, record: Mapping[str, Any], folder: ImagesDir, prompt: str | None, iou: float) -> DenseItem:
    names: list[str] = record["images"]
    sizes = [upright_size(image_path(folder, name)) for name in names]
    for (width, height), name in zip(sizes, names, strict=True):
        stated = record.get("width", width), record.get("height", height)
        if stated != (width, height):
            raise _Unusable(f"says {stated[0]} × {stated[1]} pixels, but {name} has {width} × {height}")
    widths, heights = zip(*sizes, strict=True)
    try:
        truth = _truth(record.get("objects"), sizes)
    except _OtherUnits as error:
        _log.warning("%s: %s; there is no ground truth for it, and no label", key, error)
        truth = ""
    return DenseItem(
        key=key,
        images=tuple(names),
        widths=widths,
        heights=heights,
        truth=truth,
        prompt=prompt or default_prompt(len(names)),
        iou=iou,
    )


def _truth(objects: Any, sizes: Sequence[tuple[int, int]]) -> str:
    """Return the objects as grouped JSON; "" if there are none."""
    if objects is None:
        return ""
    if isinstance(objects, list):
        text = json.dumps(group_by_image(list(chain.from_iterable(_from_pixels(objects, sizes))), len(sizes)))
    elif isinstance(objects, dict):
        text = json.dumps(objects)
    else:
        raise _Unusable("`objects` must be a list (pixels) or an object of 图片_1, 图片_2, … (0 to 1000)")
    reading = read_reply(text, len(sizes))
    if doubt := reading.other_units:
        raise _OtherUnits(f"`objects`: {doubt.place} {doubt.reason}")
    if reading.problems:
        raise _Unusable(f"`objects`: {reading.problems[0].place} {reading.problems[0].reason}")
    return json.dumps(group_by_image(reading.objects, len(sizes)), ensure_ascii=False)


def _from_pixels(objects: Sequence[Any], sizes: Sequence[tuple[int, int]]) -> list[list[DenseObject]]:
    """Return, for each image, its objects in thousandths, counted in the list's order."""
    found: list[list[DenseObject]] = [[] for _ in sizes]
    for number, value in enumerate(objects, start=1):
        members = dict(value) if isinstance(value, dict) else {}
        image = members.pop("image", 1 if len(sizes) == 1 else None)
        if isinstance(image, bool) or not isinstance(image, int) or not 1 <= image <= len(sizes):
            raise _Unusable(f"`objects`: object {number} must say its `image`, 1 to {len(sizes)}")
        width, height = sizes[image - 1]
        pairs = with_description(tuple(members.items()))
        for fault in faults(pairs, right=width, bottom=height, line_points=False):
            kind = _OtherUnits if FRACTIONS in fault else _Unusable
            raise kind(f"`objects`: object {number} {fault} (pixels of {width} × {height})")
        in_pixels = make_object(image, len(found[image - 1]) + 1, pairs)
        points = tuple(
            (round(x * FULL / width, _DECIMALS), round(y * FULL / height, _DECIMALS)) for x, y in in_pixels.points
        )
        found[image - 1].append(
            DenseObject(image=image, index=in_pixels.index, kind=in_pixels.kind, points=points, desc=in_pixels.desc)
        )
    return found
