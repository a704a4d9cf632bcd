"""Rows of a benchmark's questions: one dict each, with its names, its unit and its fixed fold. No table is read here.

Legend: N questions.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from halp_probe.catalog.benchmark import DATASET, FOLD, FOLD_UNIT, Benchmark, NotAsked, Question
from halp_probe.catalog.folds import fold_of, units
from halp_probe.records import Failure
from halp_probe.shards.columns import RESERVED_COLUMNS
from halp_probe.tables.pictures import PictureError

NO_PICTURE = "published without a picture"
_OWN = RESERVED_COLUMNS | {DATASET, FOLD, FOLD_UNIT, "image_name", "gt_answer", "image"}

Keep = Callable[[bytes], str]  # a picture's bytes -> its file's name


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Questions whose pictures have names, rows that are not asked, by reason, and those with a broken picture."""

    questions: list[Question]
    left_out: Mapping[str, int]
    failures: list[Failure]

    @property
    def names(self) -> list[str]:
        """Names of the N pictures."""
        return [str(question.image) for question in self.questions]


def ask(rows: Iterable[Question | NotAsked], keep: Keep) -> Asked:
    """Sort the rows into what is asked and what is not; a picture in a row gets its name from `keep`."""
    questions, failures = [], []
    left_out: Counter[str] = Counter()
    for row in rows:
        if isinstance(row, NotAsked) or not row.image:
            left_out[row.reason if isinstance(row, NotAsked) else NO_PICTURE] += 1
            continue
        try:
            name = keep(row.image) if isinstance(row.image, bytes) else row.image
        except PictureError as error:
            failures.append(Failure(question_id=row.question_id, stage="image", reason=str(error)))
            continue
        questions.append(replace(row, image=name))
    return Asked(questions=questions, left_out=dict(left_out), failures=failures)


def table_rows(benchmark: Benchmark, questions: Sequence[Question], equal: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the rows of a VQA table [N]; `equal`: the first name of each picture that has copies under others."""
    tied = [_tied(question, equal) for question in questions]
    rows = []
    for question, unit in zip(questions, units(tied), strict=True):
        further = {f"field_{name}" if name in _OWN else name: value for name, value in question.columns.items()}
        rows.append(
            {
                "question_id": question.question_id,
                "image_id": str(question.image),
                "question": question.text,
                "answer": question.truth,
                DATASET: benchmark.name,
                **further,
                FOLD_UNIT: unit,
                FOLD: str(fold_of(benchmark.salt, unit)),
            }
        )
    return rows


def equal_pictures(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return for each picture that has copies under other names, the first of them in the alphabet.

    Only files of one size are read. Pictures that are not there are equal to none.
    """
    by_size: defaultdict[int, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        if in_folder(name) and (folder / name).is_file():
            by_size[(folder / name).stat().st_size].append(name)
    first: dict[str, str] = {}
    equal = {}
    for alike in by_size.values():
        for name in alike if len(alike) > 1 else ():
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            equal[name] = first.setdefault(digest, name)
    return equal


def in_folder(name: str) -> bool:
    """Return whether a picture's name stays in its folder."""
    return not Path(name).is_absolute() and ".." not in Path(os.path.normpath(name)).parts


def _tied(question: Question, equal: Mapping[str, str]) -> list[str]:
    name = str(question.image)
    return [*question.tied, f"picture {name}", f"picture {equal.get(name, name)}"]
