"""What a sweep leaves behind: CSV files, and the table that is printed. Legend: N rows."""

from __future__ import annotations

import csv
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from halp_probe.files import atomic_text
from halp_probe.probes.baselines import SHUFFLED_LABELS
from halp_probe.probes.features import LabelledRows
from halp_probe.probes.metrics import Estimate
from halp_probe.probes.results import BASELINE, Judgement, Result
from halp_probe.probes.splits import Folds
from halp_probe.probes.sweep import ShuffledControl

_WIDTH = 110  # characters of a line of remarks
_NOTHING = Estimate(np.nan, np.nan, np.nan)


def write_results(path: Path, judgement: Judgement) -> None:
    """`results.csv`: one line for each representation and baseline; empty where there is no number."""
    header = ["name", "position", "layer", "n", "n_positive", "n_images", "auroc", "ci_low", "ci_high"]
    for other in ("text", "entropy"):
        header += [f"minus_{other}", f"minus_{other}_low", f"minus_{other}_high"]
    _write(path, [*header, "C", "note"], (_results_line(result, judgement) for result in judgement.results))


def write_out_of_fold(
    path: Path, judgement: Judgement, rows: LabelledRows, folds: Folds, control: ShuffledControl
) -> None:
    """`oof.csv`: each row's label, test fold and out-of-fold scores; the shuffled control with its own."""
    columns: dict[str, Iterable[Any]] = {
        "question_id": rows.question_ids,
        "image": rows.images,
        "label": rows.y,
        "fold": folds.fold,
        **judgement.risks,
        SHUFFLED_LABELS: control.risk,
        f"{SHUFFLED_LABELS}_label": control.y,
        f"{SHUFFLED_LABELS}_fold": control.folds.fold,
    }
    _write(path, list(columns), zip(*columns.values(), strict=True))


def write_left_out(path: Path, rows: LabelledRows) -> None:
    """`left_out.csv`: the samples that no number here is about, and why."""
    _write(path, ["question_id", "reason"], ((item.question_id, item.reason) for item in rows.left_out))


def table(judgement: Judgement) -> str:
    """The results as aligned text, the best probe marked with * and explained."""
    best = judgement.best
    lines: list[tuple[str, ...]] = [("", "AUROC", "95 %", "− text", "95 %", "− entropy", "95 %", "")]
    for result in judgement.results:
        mark = "*" if result is best else ""
        numbers = [part for e in (result.auroc, result.minus_text, result.minus_entropy) for part in _cells(e)]
        # only the AUROC itself goes without a sign
        numbers[0], numbers[1] = numbers[0].replace("+", ""), numbers[1].replace("+", "")
        lines.append((_title(result), *numbers, mark))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    aligned = [
        "  ".join(
            cell.ljust(w) if i in (0, 7) else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in [*aligned, "", *_remarks(judgement)])


def _remarks(judgement: Judgement) -> list[str]:
    remarks = [
        f"{judgement.n} questions ({judgement.n_positive} hallucinated) on {judgement.n_images} images; AUROC is the "
        "mean over test folds. Intervals are from a bootstrap over images: of these fitted probes on new images; "
        "probes fitted on other data would vary more."
    ]
    best = judgement.best
    if best is not None:
        remarks.append(
            f"* {_title(best)} is the best of {len(judgement.candidates)}, picked on the same folds that judge it, "
            "so its number flatters it; a nested choice of the representation is not made here."
        )
    remarks += [f"{_title(r)}: {r.note}" for r in judgement.results if r.note]
    return [textwrap.fill(remark, _WIDTH, break_on_hyphens=False) for remark in remarks]


def _title(result: Result) -> str:
    if result.position == BASELINE:
        return f"baseline: {result.name.replace('_', ' ')}"
    words = result.position.replace("_", " ")
    return words if result.layer is None else f"{words}, layer {result.layer}"


def _cells(estimate: Estimate | None) -> tuple[str, str]:
    """The value and its interval, with signs."""
    if estimate is None:
        return "", ""
    if not np.isfinite(estimate.value):
        return "nan", ""
    if not np.isfinite(estimate.low):
        return f"{estimate.value:+.3f}", ""
    return f"{estimate.value:+.3f}", f"{estimate.low:+.3f} to {estimate.high:+.3f}"


def _results_line(result: Result, judgement: Judgement) -> list[Any]:
    counts = [judgement.n, judgement.n_positive, judgement.n_images]
    numbers: list[float] = []
    for estimate in (result.auroc, result.minus_text or _NOTHING, result.minus_entropy or _NOTHING):
        numbers += [estimate.value, estimate.low, estimate.high]
    Cs = " ".join(f"{C:g}" for C in result.Cs)
    return [result.name, result.position, result.layer, *counts, *numbers, Cs, result.note]


def _write(path: Path, header: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    with atomic_text(path) as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([_text(cell) for cell in line] for line in lines)


def _text(cell: Any) -> str:
    """Numbers in full, so that they can be read back exactly; nothing for None and nan."""
    if cell is None or (isinstance(cell, float | np.floating) and np.isnan(cell)):
        return ""
    return repr(float(cell)) if isinstance(cell, float | np.floating) else str(cell)
