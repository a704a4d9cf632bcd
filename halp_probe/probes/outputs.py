"""Files and text of a study: CSV files, and the table that is printed. Legend: N rows."""

from __future__ import annotations

import csv
import textwrap
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from halp_probe.bootstrap import Estimate
from halp_probe.files import atomic_text
from halp_probe.probes.features import LabelledRows
from halp_probe.probes.judging.measures import MEASURES
from halp_probe.probes.label_noise import LabelNoise
from halp_probe.probes.layer_map import LayerMap
from halp_probe.probes.remarks import NOTE, Finding, with_interval
from halp_probe.probes.results import SELECTED, Added, Judgement, Result
from halp_probe.probes.study import Study

_WIDTH = 110  # characters of a line of remarks
_NOISE = ("n_unknown", "auroc_if_unknown_right", "auroc_if_unknown_wrong", "auroc_lowest", "auroc_highest")
_JOINT = ("auroc_joint_low", "auroc_joint_high")
_NOTHING = Estimate(value=np.nan, low=np.nan, high=np.nan)


def write_results(path: Path, judgement: Judgement, layers: LayerMap, noise: LabelNoise) -> None:
    """Write `results.csv`: one line for each probe, baseline and control; empty where there is no number.

    The last columns bound the AUROC of probes over the rows whose label is unknown; see `label_noise`. `spread`: how
    much wider than the bootstrap of the scores in oof.csv the intervals are (`intervals.refit_spread`).
    `auroc_joint_low` and `_high`: an interval of a representation that holds together with those of all others.
    """
    others = [name for name in MEASURES if name != "auroc"]
    header = ["name", "kind", "position", "layer", "n", "n_positive", "n_images", "selected_in", "chosen"]
    for name in ("auroc", *others):
        header += [name, f"{name}_low", f"{name}_high"]
    _write(
        path,
        [*header, "spread", "note", *_NOISE, *_JOINT],
        (
            [*_results_line(result, judgement, others), *_noise(result, noise), *_joint(result, layers)]
            for result in judgement.results
        ),
    )


def write_differences(path: Path, judgement: Judgement) -> None:
    """Write `differences.csv`: AUROC minus AUROC, with its interval, then the same of every other measure.

    It has all pairs of probes and baselines that have an AUROC; empty where one of the two lacks a measure.
    """
    known = [name for name, judged in judgement.judged["auroc"].items() if np.isfinite(judged.value)]
    others = [name for name, each in MEASURES.items() if name != "auroc" and each.higher_is_better is not None]
    header = ["name", "minus", "auroc_difference", "low", "high"]
    for name in others:
        header += [f"{name}_difference", f"{name}_low", f"{name}_high"]

    def line(one: str, other: str) -> list[Any]:
        found = [judgement.difference(one, other, measure) for measure in ("auroc", *others)]
        return [one, other, *(number for each in found for number in (each.value, each.low, each.high))]

    _write(path, header, (line(*pair) for pair in combinations(known, 2)))


def write_out_of_fold(path: Path, study: Study) -> None:
    """Write `oof.csv`: each row's label, test fold and out-of-fold scores.

    Scores of probes are log-odds; controls come with their own labels and folds. `selected_probe_risk` is the
    selected probe's score as a probability, calibrated inside the training folds.
    """
    rows, folds, sweep = study.rows, study.folds, study.sweep
    columns: dict[str, Iterable[Any]] = {
        "question_id": rows.question_ids,
        "image": rows.images,
        "label": rows.y,
        "fold": folds.fold,
        **{f"group_{name}": values for name, values in rows.groups.items()},
        **study.judgement.scores,
    }
    if sweep.selected:
        columns[f"{SELECTED}_risk"] = sweep.selected.risk
        columns[f"{SELECTED}_representation"] = [sweep.selected.representation[k] for k in folds.fold]
    for control in sweep.controls:
        columns |= {
            control.name: control.score,
            f"{control.name}_label": control.y,
            f"{control.name}_fold": control.folds.fold,
        }
    _write(path, list(columns), zip(*columns.values(), strict=True))


def write_left_out(path: Path, rows: LabelledRows) -> None:
    """Write `left_out.csv`: the samples that no number here is about, and why."""
    _write(path, ["question_id", "reason"], ((item.question_id, item.reason) for item in rows.left_out))


def table(judgement: Judgement, findings: Sequence[Finding]) -> str:
    """Format the results as aligned text; below it how they were made, and what a reader must know."""
    best = judgement.best_baseline
    lines: list[tuple[str, ...]] = [("", "AUROC", "95 %", f"− {best.title}" if best else "", "95 %", "chosen in")]
    for result in judgement.results:
        numbers = [text.replace("+", "") for text in _cells(result.auroc)]  # only differences have a sign
        compared = best is not None and result.name in judgement.scores and result is not best
        difference = _cells(judgement.difference(result.name, best.name)) if best and compared else ("", "")
        chosen = f"{result.selected_in} folds" if result.selected_in else ""
        lines.append((_named(result), *numbers, *difference, chosen))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    aligned = [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in [*aligned, "", *_remarks(judgement, findings)])


def _remarks(judgement: Judgement, findings: Sequence[Finding]) -> list[str]:
    remarks = [
        f"{judgement.n} questions ({judgement.n_positive} hallucinated) on {judgement.n_images} images; AUROC is the "
        "mean over test folds, its interval from a bootstrap over images: of these fitted probes on new images."
    ]
    if judgement.headline.kind == "selected":
        remarks.append(
            "selected probe: its representation and its penalty are chosen anew for each test fold, by the other folds "
            "alone; this is the number to quote."
        )
    remarks += [_added(added) for added in judgement.added]
    remarks += [f"{_named(r)}: {r.note}" for r in judgement.results if r.note and not np.isfinite(r.auroc.value)]
    remarks += [f"{finding.level}: {finding.text}" for finding in findings if finding.level != NOTE]
    return [textwrap.fill(remark, _WIDTH, break_on_hyphens=False) for remark in remarks]


def _added(added: Added) -> str:
    """Say what the probe adds to a stack of baselines."""
    numbers = f"{added.without.value:.3f} for a stack of them, {added.with_probe.value:.3f} with the probe"
    if not added.joined:
        return f"the probe {added.verdict} to {added.title}: {numbers}, which the inner folds took in no fold."
    chance = "p < 0.001" if added.p_value < 0.001 else f"p = {added.p_value:.2g}"
    return f"the probe {added.verdict} to {added.title}: {numbers}, a gain of {with_interval(added.gain)}, {chance}."


def _named(result: Result) -> str:
    kind = result.kind.replace("_", " ")
    return f"{kind}: {result.title}" if kind in ("selected baseline", "baseline", "control") else result.title


def _cells(estimate: Estimate) -> tuple[str, str]:
    """Format the value and its interval, with signs."""
    if not np.isfinite(estimate.value):
        return "nan", ""
    if not np.isfinite(estimate.low):
        return f"{estimate.value:+.3f}", ""
    return f"{estimate.value:+.3f}", f"{estimate.low:+.3f} to {estimate.high:+.3f}"


def _results_line(result: Result, judgement: Judgement, others: Sequence[str]) -> list[Any]:
    counts = [judgement.n, judgement.n_positive, judgement.n_images]
    chosen = " ".join(f"{value:g}" for value in result.chosen)
    numbers: list[float] = []
    for estimate in (result.auroc, *(result.measures.get(name, _NOTHING) for name in others)):
        numbers += [estimate.value, estimate.low, estimate.high]
    about = [result.name, result.kind, result.position, result.layer, *counts, result.selected_in, chosen]
    return [*about, *numbers, result.spread, result.note]


def _noise(result: Result, noise: LabelNoise) -> list[float | int | None]:
    bounds = noise.bounds.get(result.name)
    if bounds is None:
        return [None] * len(_NOISE)
    return [bounds.unknown, bounds.if_right.value, bounds.if_wrong.value, bounds.lowest, bounds.highest]


def _joint(result: Result, layers: LayerMap) -> list[float]:
    found = layers.estimates.get(result.name, _NOTHING)
    return [found.low, found.high]


def _write(path: Path, header: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    with atomic_text(path) as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([_text(cell) for cell in line] for line in lines)


def _text(cell: Any) -> str:
    """Write numbers in full, so that they can be read back exactly; nothing for None and nan."""
    if cell is None or (isinstance(cell, float | np.floating) and np.isnan(cell)):
        return ""
    return repr(float(cell)) if isinstance(cell, float | np.floating) else str(cell)
