"""Questions of highest and of lowest risk, for a person to look at.

Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from halp_probe.probes.study import Study

COUNT = 6  # on either side
_TEXTS = {"image_id": "image_id", "question": "question", "answer": "answer", "truth": "ground_truth_answer"}


def examples(study: Study, texts: Mapping[str, Sequence[str]]) -> dict[str, list[dict[str, Any]]]:
    """Choose by the selected probe's out-of-fold risk, at most one question an image; none without a selected probe.

    `texts`: N values by column; a column that the shards lack is blank.
    """
    if study.sweep.selected is None:
        return {"most_risky": [], "least_risky": []}
    risk = study.sweep.selected.risk
    order = [row for row in np.argsort(-risk, kind="stable") if np.isfinite(risk[row])]
    return {
        "most_risky": [_example(study, texts, row) for row in _one_an_image(study, order)],
        "least_risky": [_example(study, texts, row) for row in _one_an_image(study, order[::-1])],
    }


def _one_an_image(study: Study, order: Sequence[int]) -> list[int]:
    first: dict[str, int] = {}
    for row in order:
        first.setdefault(study.rows.images[row], row)
        if len(first) == COUNT:
            break
    return list(first.values())


def _example(study: Study, texts: Mapping[str, Sequence[str]], row: int) -> dict[str, Any]:
    assert study.sweep.selected is not None
    return {
        "question_id": study.rows.question_ids[row],
        **{name: texts[column][row] if column in texts else "" for name, column in _TEXTS.items()},
        "image_sha256": study.rows.images[row] if study.rows.images_identified_by == "image_sha256" else None,
        "risk": float(study.sweep.selected.risk[row]),
        "label": int(study.rows.y[row]),
    }
