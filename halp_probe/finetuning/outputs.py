"""Outputs of a run: the losses of every step, and the answers to held-out questions."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from halp_probe.files import atomic_text
from halp_probe.finetuning.evaluation import COLUMNS, Row, summary
from halp_probe.finetuning.stages import StageLog
from halp_probe.fused.options import ADAPTER as ADAPTER
from halp_probe.fused.options import MODEL as MODEL
from halp_probe.json_files import write_json

ORIGINAL = "original"  # folder beside MODEL and ADAPTER
EVALUATION = "evaluation.json"
_LOSSES = ("stage", "step", "loss", "learning_rate", "grad_norm", "held_out_loss")


def write_losses(folder: Path, logs: Mapping[str, StageLog]) -> None:
    """Write `losses.csv`, with one row a step and one an evaluation on the held-out part."""
    with atomic_text(folder / "losses.csv") as file:
        writer = csv.writer(file)
        writer.writerow(_LOSSES)
        for stage, log in logs.items():
            writer.writerows([stage, *(_number(row.get(name)) for name in _LOSSES[1:])] for row in log.rows)


def write_evaluation(folder: Path, rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Write `evaluation.csv` with every answer and `evaluation.json` with their summary; return the summary."""
    with atomic_text(folder / "evaluation.csv") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(row.cells for row in rows)
    found = summary(rows)
    write_json(folder / EVALUATION, found, allow_nan=True)
    return found


def has_evaluation(folder: Path) -> bool:
    """Return whether `write_evaluation` has finished here."""
    return (folder / EVALUATION).is_file()


def evaluation_text(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the evaluation in words, a line a source."""
    return "\n".join(_source_text(source, values) for source, values in found.items())


def _source_text(source: str, found: Mapping[str, Any]) -> str:
    if found["accuracy"] is None:
        return f"{source}: {found['questions']} held-out questions, none of which a rule can judge"
    low, high = found["accuracy_95"]
    swapped = "not judged" if found["swapped_accuracy"] is None else f"{found['swapped_accuracy']:.1%}"
    return (
        f"{source}: {found['accuracy']:.1%} of {found['judged']} held-out answers are right ({low:.1%} to {high:.1%}); "
        f"always {found['majority_answer']!r}: {found['majority_accuracy']:.1%}; with another question's picture: "
        f"{swapped}; {found['questions'] - found['judged']} not judged"
    )


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)
