"""Files and text of a comparison: comparison.csv, changed_answers.csv, and the table that is printed."""

from __future__ import annotations

import csv
import json
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from halp_probe.bootstrap import Estimate
from halp_probe.comparison.compare import Comparison, Movement
from halp_probe.files import atomic_text
from halp_probe.shards.reader import Shards

COMPARISON_FILE, ANSWERS_FILE = "comparison.csv", "changed_answers.csv"
_ESTIMATE = ("mean", "low", "high")
_HEADER = (
    *("representation", "position", "layer", "rows", "images", "identical_rows"),
    *(f"relative_l2_{name}" for name in (*_ESTIMATE, "median", "max")),
    *(f"cosine_{name}" for name in (*_ESTIMATE, "min")),
    *("cka", "note"),
)
_WIDTH = 120
_REVISION = 12  # characters, enough to distinguish two


def side_name(shards: Shards) -> str:
    """Name the model, its revision, the adapters on it, and what was done to its states."""
    attributes = shards.attributes
    adapters = json.loads(attributes.get("adapter_names", "[]"))
    revision = f" at {str(attributes['revision'])[:_REVISION]}" if "revision" in attributes else ""
    with_adapters = f" with adapter {', '.join(adapters)}" if adapters else ""
    under = f" under {attributes['intervention']}" if "intervention" in attributes else ""
    return f"{attributes.get('model_name', 'unknown model')}{revision}{with_adapters}{under}"


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write one line for each representation.

    Numbers are in full, and empty where there is no number; low and high are the ends of the 95 % interval.
    """
    _write(path, _HEADER, (_line(movement) for movement in comparison.movements))


def write_changed_answers(path: Path, comparison: Comparison) -> None:
    """Write one line for each question whose answer changed."""
    changed = comparison.answers.changed if comparison.answers else ()
    header = ("question_id", "question", "ground_truth", "answer_a", "answer_b")
    _write(path, header, ([getattr(answer, name) for name in header] for answer in changed))


def table(comparison: Comparison) -> str:
    """Format what moved, what did not, the answers, and what a reader must know."""
    lines = [
        f"{comparison.rows} questions on {comparison.images} images",
        "",
        f"{'representation':<40}{'relative L2':>12}{'95 %':>24}{'max':>10}{'cosine':>10}{'min':>10}{'CKA':>9}",
        *(_row(movement) for movement in comparison.movements),
        "",
        *(_fill(sentence) for sentence in summary(comparison)),
    ]
    return "\n".join(lines)


def summary(comparison: Comparison) -> list[str]:
    """Return the findings in words, one each."""
    movements = comparison.movements
    sentences = [
        f"{m.representation}: identical, the difference is exactly 0 in all {m.rows} rows"
        for m in movements
        if m.unmoved
    ]
    moved = [m for m in movements if m.relative_l2.value > 0]
    if moved:
        most = max(moved, key=lambda m: m.relative_l2.value)
        sentences.append(
            f"moved most: {most.representation}, by {most.relative_l2.value:.3g} of its length in the mean"
        )
    if comparison.answers:
        share, changed = comparison.answers.share, len(comparison.answers.changed)
        sentences.append(f"answers: {changed} of {comparison.answers.rows} changed, {_percent(share)}")
    sentences += [f"note: {m.representation}: {m.note}" for m in movements if m.note]
    return [*sentences, *(f"note: {note}" for note in comparison.notes)]


def _row(movement: Movement) -> str:
    l2 = movement.relative_l2
    interval = f"{l2.low:.3g} to {l2.high:.3g}" if np.isfinite(l2.low) and l2.high > l2.low else ""
    return (
        f"{movement.representation:<40}{_short(l2.value):>12}{interval:>24}{_short(movement.relative_l2_max):>10}"
        f"{_cosine(movement.cosine.value):>10}{_cosine(movement.cosine_min):>10}{_cosine(movement.cka, 3):>9}"
    )


def _short(number: float) -> str:
    return f"{number:.3g}"


def _cosine(number: float, digits: int = 5) -> str:
    """Round down, so that only what is exactly 1 is shown as 1."""
    if not np.isfinite(number) or number == 1:
        return _short(number)
    return f"{np.floor(number * 10**digits) / 10**digits:.{digits}f}"


def _percent(share: Estimate) -> str:
    text = f"{100 * share.value:.1f} %"
    return f"{text} ({100 * share.low:.1f} to {100 * share.high:.1f})" if np.isfinite(share.low) else text


def _fill(sentence: str) -> str:
    return textwrap.fill(sentence, _WIDTH, break_on_hyphens=False, break_long_words=False, subsequent_indent="  ")


def _line(movement: Movement) -> list[Any]:
    l2, cosine = movement.relative_l2, movement.cosine
    about = (movement.representation, movement.position, movement.layer, movement.rows, movement.images)
    numbers = (
        *(l2.value, l2.low, l2.high, movement.relative_l2_median, movement.relative_l2_max),
        *(cosine.value, cosine.low, cosine.high, movement.cosine_min, movement.cka),
    )
    return [*about, movement.identical, *(None if np.isnan(number) else number for number in numbers), movement.note]


def _write(path: Path, header: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    with atomic_text(path) as file:
        writer = csv.writer(file)  # floats in full, nothing for None
        writer.writerow(header)
        writer.writerows(lines)
