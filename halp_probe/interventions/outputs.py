"""Files and text of an ablation: `ablation.csv`, `ablation.json`, and the summary that is printed. N questions."""

from __future__ import annotations

import csv
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from halp_probe.bootstrap import Estimate
from halp_probe.files import atomic_text
from halp_probe.interventions.effects import (
    ABLATED,
    CHANGED,
    CONTROL,
    ENTROPY,
    LOGPROB,
    MEASURES,
    PAIRS,
    PLAIN,
    RISK,
    RUNS,
    WRONG,
    Effect,
    Runs,
)
from halp_probe.json_files import write_json as write_json_file
from halp_probe.version import __version__

CSV_FILE, JSON_FILE = "ablation.csv", "ablation.json"
_TITLES = {
    CHANGED: "answers changed",
    WRONG: "wrong answers",
    RISK: "mean risk",
    ENTROPY: "first-token entropy, nats",
    LOGPROB: "first-token log-probability, nats",
}
_WIDTH = 110  # characters of a line of remarks
_ALIKE = 1.5  # largest ratio of the two moves at which the control counts as matched


def measure_movement(runs: Runs, run: str) -> float:
    """Return how far this run's states are from the plain ones where the probe reads, relative to their length.

    Both are root mean squares. The states themselves are compared, so this also shows that the intervention took
    place.
    """
    plain, changed = (runs.of[name].vectors.astype(np.float64) for name in (PLAIN, run))  # [N, D]
    return float(np.sqrt(((changed - plain) ** 2).sum() / (plain**2).sum()))


def write_csv(path: Path, runs: Runs) -> None:
    """Write one line a question.

    A label that is unknown is left blank, and so is a change of the plain run against itself.
    """
    header = ["question_id", "image_id", "question", "ground_truth_answer"]
    header += [f"answer_{name}" for name in RUNS]
    columns: list[Sequence[Any]] = [runs.question_ids, runs.image_ids, runs.questions, runs.truths]
    columns += [runs.of[name].answers for name in RUNS]
    for measure in MEASURES:
        for name in (ABLATED, CONTROL) if measure == CHANGED else RUNS:
            header.append(f"{'label' if measure == WRONG else measure}_{name}")
            columns.append([_cell(value, measure) for value in runs.of[name].values[measure]])
    with atomic_text(path) as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(zip(*columns, strict=True))


def write_json(path: Path, about: Mapping[str, Any], runs: Runs, effects: Sequence[Effect]) -> None:
    """Write `about`, which says what was done (JSON), then every estimate; null for what is not known."""
    record = {
        **about,
        "questions": len(runs.question_ids),
        "images": len(np.unique(runs.images)),
        "left_out": runs.left_out,
        "verdicts": {name: count_turns(runs, name) for name in (ABLATED, CONTROL)},
        "effects": {effect.measure: _effect_json(effect) for effect in effects},
        "halp_probe_version": __version__,
    }
    write_json_file(path, record)


def count_turns(runs: Runs, run: str) -> dict[str, int]:
    """Count the verdicts that went from right to wrong and back, among the questions with a verdict in both runs."""
    before, after = (runs.of[name].values[WRONG] for name in (PLAIN, run))
    known = np.isfinite(before) & np.isfinite(after)
    return {
        "right_to_wrong": int(((after > before) & known).sum()),
        "wrong_to_right": int(((after < before) & known).sum()),
        "without_verdict": int((~known).sum()),
    }


def summary(runs: Runs, effects: Sequence[Effect], moved: Mapping[str, float], how: str) -> str:
    """Format the effects as aligned text, and below them what a reader must know.

    `moved` is each run's `measure_movement`; `how` is the control, removed or moved.
    """
    head = ("", *RUNS, "ablated − plain", "95 %", "ablated − control", "95 %")
    lines = [head, *(tuple(_line(effect)) for effect in effects)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    aligned = [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    remarks = (textwrap.fill(text, _WIDTH, break_on_hyphens=False) for text in _remarks(runs, effects, moved, how))
    return "\n".join([*(line.rstrip() for line in aligned), "", *remarks])


def _line(effect: Effect) -> Iterator[str]:
    yield _TITLES[effect.measure]
    yield from (f"{effect.mean[name].value:.3f}" for name in RUNS)
    for minus in (PLAIN, CONTROL):
        difference = effect.difference[ABLATED, minus]
        yield f"{difference.value:+.3f}"
        yield f"{difference.low:+.3f} to {difference.high:+.3f}" if np.isfinite(difference.low) else "none"


def _remarks(runs: Runs, effects: Sequence[Effect], moved: Mapping[str, float], how: str) -> Iterator[str]:
    questions, images = len(runs.question_ids), len(np.unique(runs.images))
    yield f"{questions} questions on {images} images; intervals from a bootstrap over images, paired by question."
    yield (
        "mean risk: the probe reads nothing but what was taken out, so at its own layer every question has the same "
        "risk after ablation. That is so by construction and says nothing about the answers."
    )
    did = "taken out" if how == "removed" else "along which every state moves as far as without the probe's direction"
    yield (
        f"control: a random direction, {did}: one that a probe of random weights would have, orthogonal to this "
        f"probe's, whose risk it leaves as it is. Where the probe reads, the states moved by {moved[CONTROL]:.2%} of "
        f"their length (root mean square), without the probe's direction by {moved[ABLATED]:.2%}."
    )
    smaller, larger = sorted((moved[ABLATED], moved[CONTROL]))
    if how == "removed" and larger > _ALIKE * smaller:
        yield (
            "The two moves differ in size, and so may their effects: `control='moved'` (with another `output_dir`) "
            "compares with a move of the same size."
        )
    judged = [effect for effect in effects if effect.measure == WRONG]
    if not judged:
        yield "wrong answers: no answer has a verdict in all runs (the table may have no ground truth)."
    for effect in judged:
        turns = {name: count_turns(runs, name) for name in (ABLATED, CONTROL)}
        counts = "; ".join(
            f"{name}: {n['right_to_wrong']} went from right to wrong, {n['wrong_to_right']} from wrong to right"
            for name, n in turns.items()
        )
        yield (
            f"wrong answers: {effect.questions} of {questions} questions have a verdict in all runs; the others do not "
            f"count here. {counts}."
        )
    if runs.left_out:
        yield f"{runs.left_out} questions are not in all runs and were left out: see failures.csv in each folder."


def _effect_json(effect: Effect) -> dict[str, Any]:
    return {
        "questions": effect.questions,
        "mean": {name: _plain(estimate) for name, estimate in effect.mean.items()},
        "difference": {f"{run} - {minus}": _plain(effect.difference[run, minus]) for run, minus in PAIRS},
    }


def _plain(estimate: Estimate) -> dict[str, Any]:
    return {name: None if value != value else value for name, value in asdict(estimate).items()}


def _cell(value: float, measure: str) -> str:
    """Format in full, so that the number can be read back exactly."""
    if np.isnan(value):
        return ""
    return str(int(value)) if measure in (CHANGED, WRONG) else repr(float(value))
