"""`report.json`, `report.html` and `heatmap.png` of a study, into its output folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from halp_probe.engine.images import ImageError, image_path
from halp_probe.errors import InputError
from halp_probe.files import atomic_text, write_bytes
from halp_probe.json_files import read_json, write_json
from halp_probe.probes.results import Result
from halp_probe.probes.study import Study
from halp_probe.report.content import report_content
from halp_probe.report.heatmap import Cell, heatmap_png
from halp_probe.report.html import render_report
from halp_probe.report.reading import REPORT_FILE
from halp_probe.report.thumbnails import thumbnail
from halp_probe.shards.reader import Shards

_TEXTS = ("image_id", "question", "answer", "ground_truth_answer")
_RUN_RECORD = "run.json"  # of the extraction


def write_report(
    folder: Path, found: Study, shards: Shards, *, labels: Path, images_dir: Path | None, seconds: float
) -> None:
    """`images_dir`: of the examples' pictures; None: the folder that the shards were extracted from, if it is there."""
    columns = {name: shards.text(name) for name in _TEXTS if shards.has(name)}
    texts = {name: [values[row] for row in found.rows.index] for name, values in columns.items()}
    about = {
        **{name: shards.attributes.get(name) for name in ("model_name", "revision")},
        "shards": str(shards.files[0].parent),
        "labels": str(labels),
        "seconds": round(seconds, 1),
    }
    report = report_content(found, texts, about)
    pictures = _thumbnails(report["examples"], images_dir or _images_of_run(shards.files[0].parent))
    write_json(folder / REPORT_FILE, report, indent=1)
    _write_heatmap(folder / "heatmap.png", found, str(about["model_name"] or "unnamed model"))
    with atomic_text(folder / "report.html") as file:
        file.write(render_report(report, pictures))


def _thumbnails(examples: Mapping[str, Sequence[Mapping[str, Any]]], images_dir: Path | None) -> dict[str, bytes]:
    """Those of the pictures that are there and, where the shards tell, have the content that was captured."""
    pictures: dict[str, bytes] = {}
    if images_dir is None:
        return pictures
    for example in (*examples["most_risky"], *examples["least_risky"]):
        try:
            path = image_path(images_dir, example["image_id"])
            if example["image_sha256"] in (None, hashlib.sha256(path.read_bytes()).hexdigest()):
                pictures[example["image_id"]] = thumbnail(path)
        except (ImageError, OSError):
            continue
    return pictures


def _images_of_run(shards_dir: Path) -> Path | None:
    """The `images_dir` that the extraction's record names; None when there is no such record or folder."""
    try:
        images_dir = Path(read_json(shards_dir / _RUN_RECORD)["images_dir"])
    except (InputError, KeyError, TypeError):
        return None
    return images_dir if images_dir.is_dir() else None


def _write_heatmap(path: Path, found: Study, title: str) -> None:
    def cell(result: Result) -> Cell:
        return Cell(str(result.position), result.layer, result.auroc.value, result.auroc.low, result.auroc.high)

    judgement = found.judgement
    subtitle = f"{judgement.n} questions on {judgement.n_images} images"
    best = None
    if found.sweep.selected:
        best = cell(judgement.result(found.sweep.leading))
        subtitle = f"{subtitle}; framed: chosen in most folds"
    write_bytes(path, heatmap_png([cell(r) for r in judgement.of_kind("representation")], title, subtitle, best))
