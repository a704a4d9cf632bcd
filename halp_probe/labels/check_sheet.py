"""Sheet to check labels by hand: a sample of each rule and verdict, in random order, without the verdicts."""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from halp_probe.csv_files import read_rows
from halp_probe.files import atomic_text
from halp_probe.labels.report import strata
from halp_probe.labels.table import ID_COLUMN, LabelError, LabelRow

OWN_LABEL = "your_label"  # the column that a person fills in
WEIGHT, STRATUM = "weight", "stratum"
COLUMNS = (ID_COLUMN, OWN_LABEL, "question", "ground_truth", "model_answer", WEIGHT, STRATUM)
_SIZE = 100
_LEAST = 2  # of each rule and verdict
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Row that was drawn. `weight`: how many rows of its stratum, a rule and verdict, it stands for."""

    row: LabelRow
    weight: float
    stratum: int


def draw(rows: Sequence[LabelRow], size: int = _SIZE, seed: int = _SEED) -> list[Drawn]:
    """Draw rows at random, in proportion to their strata but some of each, and shuffle them."""
    chance = random.Random(seed)
    groups = list(strata(rows).values())
    numbers = _allocate([len(group) for group in groups], size)
    drawn = [
        Drawn(row=row, weight=len(group) / number, stratum=place)
        for place, (group, number) in enumerate(zip(groups, numbers, strict=True), start=1)
        for row in chance.sample(group, number)
    ]
    chance.shuffle(drawn)
    return drawn


def write_sheet(path: Path, rows: Sequence[LabelRow]) -> bool:
    """Write the sheet, and return True; leave one that a person began to fill as it is, and return False.

    Raises LabelError for another file of this name.
    """
    if path.exists() and _is_begun(path):
        return False
    with atomic_text(path) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for each in draw(rows):
            texts = (
                each.row.question,
                each.row.ground_truth or each.row.truth,
                each.row.model_answer or each.row.answer,
            )
            writer.writerow((each.row.question_id, "", *texts, repr(each.weight), each.stratum))
    return True


def read_weights(path: Path) -> dict[str, tuple[float, str]]:
    """Return the weight and the stratum of each question of a sheet. Raises LabelError for a file that is none."""
    found = {}
    for record in _records(path):
        try:
            weight = float(record[WEIGHT])
        except ValueError:
            weight = float("nan")
        if not 1 <= weight < float("inf"):
            raise LabelError(
                f"{path}: question_id {record[ID_COLUMN]!r} has {record[WEIGHT]!r} in column {WEIGHT!r}; leave the "
                "sheet's other columns as they were written"
            )
        found[record[ID_COLUMN]] = (weight, record[STRATUM])
    return found


def _is_begun(path: Path) -> bool:
    return any(record[OWN_LABEL].strip() for record in _records(path))


def _records(path: Path) -> list[Mapping[str, str]]:
    header, *rows = [row.cells for row in read_rows(path, LabelError)] or [[]]
    if missing := [name for name in (ID_COLUMN, OWN_LABEL, WEIGHT, STRATUM) if name not in header]:
        raise LabelError(f"{path} is no sheet of labels to check (no column {missing[0]!r}); move it, or name another")
    if short := [row for row in rows if len(row) != len(header)]:
        raise LabelError(f"{path}: a row has {len(short[0])} cells where the header has {len(header)}; mend it")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _allocate(sizes: Sequence[int], size: int) -> list[int]:
    """Return how many to draw of each: in proportion, at least two (or all), and `size` together where there are."""
    total = sum(sizes)
    numbers = [min(own, _LEAST) for own in sizes]
    while sum(numbers) < min(size, total):
        open_ones = [place for place, own in enumerate(sizes) if numbers[place] < own]
        wanting = max(open_ones, key=lambda place: size * sizes[place] / total - numbers[place])
        numbers[wanting] += 1
    return numbers
