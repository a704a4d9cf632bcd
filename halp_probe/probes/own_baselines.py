"""Baselines that are a number a question: a user's own, and what a run recorded of its sampled answers and replies.

Legend: M samples in the shards.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from halp_probe.errors import InputError
from halp_probe.probes.errors import ProbeError
from halp_probe.rivals.asked import ASKED_FILE, asked_measures
from halp_probe.rivals.measures import sampled_measures
from halp_probe.rivals.table import read_rivals
from halp_probe.shards.reader import Shards

OwnBaselines: TypeAlias = "Mapping[str, np.ndarray] | str | os.PathLike[str]"


def own_baselines(given: OwnBaselines, question_ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Return from each name [M] float64: of arrays in the order of `question_ids`, or of a CSV file.

    The file has `question_id` and a column of numbers for each baseline; a blank cell, and a question without a line,
    has nan. Raises ProbeError for an array of another shape, for a file that cannot be read or lacks such columns, for
    a cell that is no number, an id twice, and ids that are not those of the shards.
    """
    if isinstance(given, str | os.PathLike):
        return _read(Path(given), question_ids)
    checked = {}
    for name, column in given.items():
        values = np.asarray(column)
        if values.shape != (len(question_ids),) or values.dtype.kind not in "fiub":
            raise ProbeError(
                f"the baseline {name!r} is an array of shape {values.shape} and dtype {values.dtype}; it takes numbers "
                f"of shape ({len(question_ids)},), one for each question in the shards' order, nan where it has none"
            )
        checked[name] = values.astype(np.float64)
    return checked


def _read(path: Path, question_ids: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        found = read_rivals(path, question_ids)
    except InputError as error:
        raise ProbeError(str(error)) from error
    if not found:
        raise ProbeError(f"{path} has no column beside `question_id`; a baseline is a column of numbers")
    if np.isnan(np.stack(list(found.values()))).all():
        raise ProbeError(
            f"{path} has no number for any of these questions (the shards begin with {question_ids[0]!r}); pass the "
            "file that was made for these shards"
        )
    return found


def recorded_rivals(shards: Shards) -> dict[str, np.ndarray]:
    """Return what a run recorded of its rivals: [M] float64 each, higher = riskier, nan where there is none.

    They are the measures of sampled answers, where the run sampled any, and those of `asked.csv` beside the shards.
    """
    found = sampled_measures(shards) if shards.has_samples else {}
    asked = shards.files[0].parent / ASKED_FILE
    return {**found, **(asked_measures(asked, shards.question_ids) if asked.exists() else {})}
