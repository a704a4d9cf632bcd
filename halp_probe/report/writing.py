"""Writer of a study's `report.json`, `report.html` and `heatmap.png`, into its output folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from halp_probe.engine.images import ImageError, ImageFolder, image_path
from halp_probe.errors import InputError
from halp_probe.files import atomic_text, write_bytes
from halp_probe.json_files import read_json, write_json
from halp_probe.probes import outputs
from halp_probe.probes.results import Result
from halp_probe.probes.saving import save_probes
from halp_probe.probes.study import Study
from halp_probe.report.content import report_content
from halp_probe.report.heatmap import Cell, heatmap_png
from halp_probe.report.html import render_report
from halp_probe.report.reading import REPORT_FILE
from halp_probe.report.thumbnails import thumbnail
from halp_probe.shards.names import is_representation

_TEXTS = ("image_id", "question", "answer", "ground_truth_answer")
PROBES_FOLDER = "probes"
_RUN_RECORD = "run.json"  # of the extraction


def write_report(
    study: Study,
    output_dir: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] = "",
    images_dir: str | os.PathLike[str] | None = None,
    allow_links: bool = False,
    max_error: float | None = None,
) -> None:
    """Write all that `train_probes.py` leaves: report.html, report.json, CSV files, and the probes fitted on all rows.

    Parameters
    ----------
    study
        What `halp_probe.study` found.
    output_dir
        Folder that gets the files; report.html comes last, so it never stands beside other results.
    labels
        Where the labels came from, for the record.
    images_dir
        Folder of the examples' pictures; None: the one that the shards were extracted from, if it is there.
    allow_links
        Whether links in that folder that lead out of it are followed; otherwise their pictures are left out.
    max_error
        Save with each probe the threshold that keeps the share of wrong answers below this, between 0 and 1.

    Raises
    ------
    InputError
        When the folder cannot be written.

    Examples
    --------
    >>> import halp_probe
    >>> shards, labels = halp_probe.open_shards("output"), halp_probe.read_labels("labels.csv")
    >>> halp_probe.write_report(halp_probe.study(shards, labels, halp_probe.Design(bootstrap=50)), "report")
    >>> halp_probe.load_probe("report/probes/selected_probe").width
    128
    """
    folder = writable_folder(Path(output_dir))
    (folder / "report.html").unlink(missing_ok=True)
    outputs.write_left_out(folder / "left_out.csv", study.rows)
    outputs.write_out_of_fold(folder / "oof.csv", study)
    outputs.write_results(folder / "results.csv", study.judgement, study.layers, study.noise)
    outputs.write_differences(folder / "differences.csv", study.judgement)
    save_probes(folder / PROBES_FOLDER, study, study.shards.attributes, Path(labels).name, max_error)
    _write_page(folder, study, str(labels), None if images_dir is None else Path(images_dir), allow_links)


def writable_folder(folder: Path) -> Path:
    """Make the folder of a report. Raises InputError when it cannot be written."""
    try:
        (folder / PROBES_FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"`output_dir` {folder} cannot be written: {error.strerror}") from error
    return folder


def _write_page(folder: Path, study: Study, labels: str, images_dir: Path | None, allow_links: bool) -> None:
    """Write report.json, heatmap.png and report.html."""
    shards = study.shards
    columns = {name: shards.text(name) for name in _TEXTS if shards.has(name)}
    texts = {name: [values[row] for row in study.rows.index] for name, values in columns.items()}
    files = getattr(shards, "files", ())
    shards_dir = files[0].parent if files else None
    about = {
        **{name: shards.attributes.get(name) for name in ("model_name", "revision")},
        "shards": str(shards_dir or "shards in memory"),
        "labels": labels,
        "seconds": round(study.seconds, 1),
    }
    report = report_content(study, texts, about)
    of_run = None if shards_dir is None else _images_of_run(shards_dir)
    shown = images_dir or of_run
    pictures = {} if shown is None else _thumbnails(report["examples"], ImageFolder(shown, allow_links))
    write_json(folder / REPORT_FILE, report, indent=1)
    _write_heatmap(folder / "heatmap.png", study, str(about["model_name"] or "unnamed model"))
    with atomic_text(folder / "report.html") as file:
        file.write(render_report(report, pictures))


def _thumbnails(examples: Mapping[str, Sequence[Mapping[str, Any]]], images_dir: ImageFolder) -> dict[str, bytes]:
    """Return thumbnails of the pictures that exist and, where the shards have a hash, still have that content."""
    pictures: dict[str, bytes] = {}
    for example in (*examples["most_risky"], *examples["least_risky"]):
        try:
            path = image_path(images_dir, example["image_id"])
            if example["image_sha256"] in (None, hashlib.sha256(path.read_bytes()).hexdigest()):
                pictures[example["image_id"]] = thumbnail(path)
        except (ImageError, OSError):
            continue
    return pictures


def _images_of_run(shards_dir: Path) -> Path | None:
    """Return the `images_dir` that the extraction's record names; None when there is no such record or folder."""
    try:
        images_dir = Path(read_json(shards_dir / _RUN_RECORD)["images_dir"])
    except (InputError, KeyError, TypeError):
        return None
    return images_dir if images_dir.is_dir() else None


def _write_heatmap(path: Path, study: Study, title: str) -> None:
    """Draw the cells of the shards' own representations; a user's feature has no place in the model."""

    def cell(result: Result) -> Cell:
        joint = study.layers.estimates[result.name]
        return Cell(
            position=str(result.position), layer=result.layer, auroc=joint.value, low=joint.low, high=joint.high
        )

    judgement = study.judgement
    placed = [result for result in judgement.of_kind("representation") if is_representation(result.name)]
    subtitle = f"{judgement.n} questions on {judgement.n_images} images; intervals hold for all cells at once"
    best = None
    if study.sweep.selected and is_representation(study.sweep.leading):
        best = cell(judgement.result(study.sweep.leading))
        subtitle = f"{subtitle}; framed: chosen in most folds"
    write_bytes(path, heatmap_png([cell(result) for result in placed], title, subtitle, best))
