"""Output of dense captioning: one line a record with objects in both units, the metrics, and painted images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halp_probe.engine.images import ImagesDir, image_path, load_image
from halp_probe.files import atomic_text
from halp_probe.task_files.drawing import draw, save_png
from halp_probe.task_files.json_lines import json_line
from halp_probe.tasks.dense_caption import DenseItem, judge, place_of, true_objects
from halp_probe.tasks.geometry import DenseObject, to_pixels
from halp_probe.tasks.grouped_json import Reading, as_member, group_by_image
from halp_probe.tasks.matching import match


@dataclass(frozen=True, kw_only=True)
class CaptionedRecord:
    """Record with the reply to it."""

    item: DenseItem
    reading: Reading
    reply: str
    finished: bool  # False: the reply was cut off at the token limit
    date: str  # of the reply: ISO 8601, UTC


def write_captions(path: Path, captioned: Sequence[CaptionedRecord]) -> None:
    """Replace the file; it gets one line for each record that has a reply."""
    with atomic_text(path) as file:
        file.writelines(json_line(as_json(each)) for each in captioned)


def as_json(each: CaptionedRecord) -> dict[str, Any]:
    """Return the fields of a line. `matches` is null where places cannot be compared, `label` where it is unknown."""
    item, reading = each.item, each.reading
    verdict = judge(item, reading)
    pairs = match(reading.objects, true_objects(item), item.iou)
    matches = [
        {"object": place_of(pair.described), "true": place_of(pair.true), "iou": round(pair.iou, 4)} for pair in pairs
    ]
    return {
        "key": item.key,
        "images": list(item.images),
        "widths": list(item.widths),
        "heights": list(item.heights),
        "objects": group_by_image(reading.objects, len(item.images)),
        "objects_in_pixels": _in_pixels(item, reading.objects),
        "problems": [{"place": problem.place, "reason": problem.reason} for problem in reading.problems],
        "cut_off": reading.cut_off,
        "finished": each.finished,
        "matches": matches if item.truth and reading.other_units is None else None,
        "label": verdict.label,
        "reason": verdict.reason,
        "reply": each.reply,
        "timestamp": each.date,
    }


def draw_captions(
    folder: Path, images_dir: ImagesDir, items: Sequence[DenseItem], captioned: Sequence[CaptionedRecord]
) -> int:
    """Write a PNG for each image of each record with a reply, and return how many.

    `0001_street.png`, `0002_1_front.png`, `0002_2_back.png`: the record's place among all items, which image of
    several, the file's name. Raises InputError for an image that can no longer be read.
    """
    places = {item.key: place for place, item in enumerate(items, start=1)}
    count = 0
    for each in captioned:
        true = true_objects(each.item)
        matched = {pair.described for pair in match(each.reading.objects, true, each.item.iou)}
        for number, file in enumerate(each.item.images, start=1):
            pixels = load_image(image_path(images_dir, file)).pixels
            described = [one for one in each.reading.objects if one.image == number]
            invented = [one for one in described if each.item.truth and one not in matched]
            which = f"{number}_" if len(each.item.images) > 1 else ""
            name = f"{places[each.item.key]:04d}_{which}{Path(file).stem}.png"
            save_png(draw(pixels, described, [one for one in true if one.image == number], invented), folder / name)
            count += 1
    return count


def _in_pixels(item: DenseItem, objects: Sequence[DenseObject]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {f"图片_{number}": {} for number in range(1, len(item.images) + 1)}
    for one in objects:
        points = to_pixels(one.points, item.widths[one.image - 1], item.heights[one.image - 1])
        found[f"图片_{one.image}"][f"object_{one.index}"] = as_member(one, points)
    return found
