"""Contents of a `report.json` for the page: headline, AUROC by representation, heatmap cells, riskiest examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

from halp_probe.app.shards_contents import picture_inside
from halp_probe.bootstrap import Estimate
from halp_probe.engine.images import ImageError, LoadedImage
from halp_probe.errors import InputError
from halp_probe.probes.remarks import Finding
from halp_probe.report.heatmap import Cell
from halp_probe.report.layout import Result, by_kind
from halp_probe.report.reading import read_report


@dataclass(frozen=True, kw_only=True)
class Headline:
    """Probe that the report is about, against its best baseline if there is one."""

    title: str
    auroc: Estimate
    baseline: str | None
    baseline_auroc: Estimate | None
    difference: Estimate | None  # of the two AUROCs, paired
    note: str


@dataclass(frozen=True, kw_only=True)
class RepresentationRow:
    """Result of one representation."""

    title: str
    position: str
    layer: int | None  # None for the two vision means
    auroc: Estimate  # its interval holds together with those of the other representations
    picked_in: int | None  # number of folds that chose it; None where none chooses


@dataclass(frozen=True, kw_only=True)
class Example:
    """Question with its out-of-fold risk, and whether the answer was judged wrong."""

    question_id: str
    image_id: str
    question: str
    answer: str  # the model's
    truth: str
    risk: float
    wrong: bool
    image_sha256: str | None  # of the image's file; None where the report does not record it


@dataclass(frozen=True, kw_only=True)
class ReportContents:
    """Contents of a report that the tab shows; `content` is all of it, for `report.html.render_report`."""

    path: Path
    content: Mapping[str, Any]
    model: str
    date: str  # ISO 8601
    questions: int
    wrong: int  # of them
    images: int
    folds: int
    headline: Headline
    representations: tuple[RepresentationRow, ...]
    most_risky: tuple[Example, ...]
    least_risky: tuple[Example, ...]
    warnings: tuple[Finding, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Cells of position × layer, for `report.heatmap.heatmap_png` or a chart; nan for an unknown AUROC."""
        return tuple(
            Cell(position=row.position, layer=row.layer, auroc=row.auroc.value, low=row.auroc.low, high=row.auroc.high)
            for row in self.representations
        )

    @property
    def best(self) -> RepresentationRow | None:
        """Representation that most folds chose; of equals the one of highest AUROC."""
        picked = [row for row in self.representations if row.picked_in]
        return max(picked, key=lambda row: (row.picked_in or 0, row.auroc.value), default=None)


def open_report(path: Path) -> ReportContents:
    """Read a report. Raises InputError when the file is not a report of this version, or is incomplete."""
    content = read_report(path)
    try:
        return _contents(path, content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged: a part is missing or of another kind ({error}); run train_probes.py again"
        ) from error


def example_picture(contents: ReportContents, question_id: str, images_dir: Path) -> LoadedImage:
    """Read the picture of one of the report's examples from this folder, with the content that was captured.

    Raises ImageError when it is not there, leads out of the folder or has changed.
    """
    examples = (*contents.most_risky, *contents.least_risky)
    example = next((example for example in examples if example.question_id == question_id), None)
    if example is None:
        raise InputError(f"no question {question_id!r} among the report's examples; choose one that is shown")
    image = picture_inside(images_dir, example.image_id)
    if example.image_sha256 not in (None, image.sha256):
        raise ImageError(f"{example.image_id} has changed since it was captured; pass the folder with the original")
    return image


def _contents(path: Path, content: Mapping[str, Any]) -> ReportContents:
    data, run = content["data"], content["made"]
    shown = {kind: results for kind, _heading, results in by_kind(content["results"])}
    return ReportContents(
        path=path,
        content=content,
        model=str(data["model_name"] or "not recorded"),
        date=str(run["date"]),
        questions=int(data["n"]),
        wrong=int(data["n_positive"]),
        images=int(data["n_images"]),
        folds=int(run["folds"]),
        headline=_headline(content["headline"]),
        representations=tuple(map(_representation_row, shown.get("representation", []))),
        most_risky=tuple(map(_example, content["examples"]["most_risky"])),
        least_risky=tuple(map(_example, content["examples"]["least_risky"])),
        warnings=tuple(Finding(str(each["level"]), str(each["text"])) for each in content["warnings"]),
    )


def _headline(values: Mapping[str, Any]) -> Headline:
    baseline, difference = values["best_baseline"], values["difference"]
    return Headline(
        title=str(values["title"]),
        auroc=_estimate(values["auroc"]),
        baseline=str(baseline["title"]) if baseline else None,
        baseline_auroc=_estimate(baseline["auroc"]) if baseline else None,
        difference=_estimate(difference) if difference else None,
        note=str(values["note"]),
    )


def _representation_row(result: Result) -> RepresentationRow:
    layer, picked = result["layer"], result["selected_in"]
    return RepresentationRow(
        title=str(result["title"]),
        position=str(result["position"] or result["title"]),
        layer=None if layer is None else int(layer),
        auroc=_estimate(result.get("joint") or result["auroc"]),
        picked_in=None if picked is None else int(picked),
    )


def _example(values: Mapping[str, Any]) -> Example:
    texts = {name: str(values[name]) for name in ("question_id", "image_id", "question", "answer", "truth")}
    digest = values.get("image_sha256")
    return Example(**texts, risk=float(values["risk"]), wrong=bool(values["label"]), image_sha256=digest)


def _estimate(values: Mapping[str, Any]) -> Estimate:
    """Return the estimate, with nan for null."""
    value, low, high = (nan if values[name] is None else float(values[name]) for name in ("value", "low", "high"))
    return Estimate(value=value, low=low, high=high, note=str(values["note"]))
