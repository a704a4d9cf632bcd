"""Studies of several models or prompts on the same questions, paired: probes and answers of one against the other's.

Legend: N common questions, S studies.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from halp_probe.bootstrap import Draws, Estimate
from halp_probe.csv_files import read_rows
from halp_probe.files import atomic_text
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.judging.metrics import MeasuredScore, judge_measures
from halp_probe.probes.judging.rows import Rows
from halp_probe.probes.results import SELECTED

OUT_OF_FOLD, RESULTS = "oof.csv", "results.csv"
_MEASURES = ("auroc", "prevalence")
_HEADER = ("a", "b", "questions", "images", "measure", "value_a", "value_b", "b_minus_a", "low", "high", "p_value")


@dataclass(frozen=True, kw_only=True)
class JudgedModel:
    """Out-of-fold scores of one study's selected probe, and its model's labels."""

    name: str
    question_ids: tuple[str, ...]
    rows: Rows
    score: np.ndarray  # [N] float64
    spread: float  # `refit_spread` of the score


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Paired difference of two studies by one measure, on the questions that both have."""

    a: str
    b: str
    measure: str  # auroc of the selected probe, or prevalence: the share of wrong answers
    questions: int
    images: int
    value_a: float
    value_b: float
    difference: Estimate  # b minus a
    p_value: float


def read_study(folder: Path, name: str) -> JudgedModel:
    """Read what train_probes.py, or `halp-probe study` in `report/`, wrote into a folder.

    Raises ProbeError for a folder without a study, and for one without a selected probe.
    """
    place = folder if (folder / OUT_OF_FOLD).exists() else folder / "report"
    scores, results = (_table(place / file, folder) for file in (OUT_OF_FOLD, RESULTS))
    if SELECTED not in scores:
        raise ProbeError(f"{folder} has no selected probe, since it has no inner folds: compare studies that have")
    spread = dict(zip(results["name"], results["spread"], strict=True))[SELECTED]
    return JudgedModel(
        name=name,
        question_ids=tuple(scores["question_id"]),
        rows=Rows(
            y=np.array(scores["label"], dtype=int),
            fold=np.array(scores["fold"], dtype=int),
            images=np.array(scores["image"]),
        ),
        score=np.array([float(cell or "nan") for cell in scores[SELECTED]]),
        spread=float(spread),
    )


def compare_studies(studies: Sequence[JudgedModel], draws: Draws) -> list[Compared]:
    """Compare each pair of studies on the questions that both have, on the same draws of images.

    Raises ProbeError for two that share no question, or whose questions show other images.
    """
    return [found for a, b in combinations(studies, 2) for found in _compare(a, b, draws)]


def write_comparison(path: Path, found: Sequence[Compared]) -> None:
    """Write a line for each pair and measure."""
    with atomic_text(path) as file:
        writer = csv.writer(file)
        writer.writerow(_HEADER)
        for each in found:
            numbers = (each.value_a, each.value_b, each.difference.value, each.difference.low, each.difference.high)
            cells = ["" if np.isnan(number) else repr(float(number)) for number in (*numbers, each.p_value)]
            writer.writerow([each.a, each.b, each.questions, each.images, each.measure, *cells])


def _compare(a: JudgedModel, b: JudgedModel, draws: Draws) -> Iterator[Compared]:
    place = {question_id: row for row, question_id in enumerate(b.question_ids)}
    pairs = [(row, place[each]) for row, each in enumerate(a.question_ids) if each in place]
    if not pairs:
        raise ProbeError(f"{a.name} and {b.name} have no question in common; compare studies of the same questions")
    at, to = np.array(pairs).T
    if differing := int((a.rows.images[at] != b.rows.images[to]).sum()):
        raise ProbeError(
            f"{differing} of {len(pairs)} questions show another image in {b.name} than in {a.name}; compare studies "
            "of the same images, joined in the same way"
        )
    judged_a, judged_b = (_judge(each, index, draws) for each, index in ((a, at), (b, to)))
    for measure in _MEASURES:
        one, other = judged_a[measure], judged_b[measure]
        yield Compared(
            a=a.name,
            b=b.name,
            measure=measure,
            questions=len(pairs),
            images=len(np.unique(a.rows.images[at])),
            value_a=one.value,
            value_b=other.value,
            difference=other.minus(one),
            p_value=other.p_value(one),
        )


def _judge(study: JudgedModel, index: np.ndarray, draws: Draws) -> dict[str, MeasuredScore]:
    judged = judge_measures(_MEASURES, {"": study.score[index]}, study.rows.take(index), draws, {"": study.spread})
    return {measure: each[""] for measure, each in judged.items()}


def _table(path: Path, folder: Path) -> dict[str, list[str]]:
    if not path.exists():
        raise ProbeError(f"{folder} holds no {path.name}; pass the `output_dir` of a study or of train_probes.py")
    header, *lines = read_rows(path)
    columns = zip(*(line.cells for line in lines), strict=True)
    return {name: list(column) for name, column in zip(header.cells, columns, strict=True)}
