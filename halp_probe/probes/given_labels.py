"""Labels as people hold them: a mapping or a pandas Series by question id, where blank, None and nan are unknown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from halp_probe.probes.errors import ProbeError

if TYPE_CHECKING:
    import pandas as pd

GivenLabels: TypeAlias = "Mapping[str, int | None] | pd.Series[Any]"


def labels_by_id(labels: GivenLabels) -> dict[str, Any]:
    """Return question id -> 0, 1 or None; a value that is none of these is left for the join to refuse by name.

    Whole numbers in a Series' index, as pandas reads ids of digits, stand for their digits. Raises ProbeError for an id
    that comes twice, and for what has no ids at all.
    """
    if isinstance(labels, Mapping):
        return {question_id: _label(value) for question_id, value in labels.items()}
    if not (hasattr(labels, "index") and hasattr(labels, "items") and hasattr(labels, "isna")):
        raise ProbeError(
            f"labels are {type(labels).__name__}, which says no question ids: pass a mapping from question id to 0, 1 "
            "or None, or a pandas Series with question ids as its index: frame.set_index('question_id')['label']"
        )
    ids = [str(question_id) for question_id in labels.index]
    twice = [question_id for question_id, count in Counter(ids).items() if count > 1]
    if twice:
        raise ProbeError(f"{len(twice)} question ids come twice in the labels' index (first: {twice[0]!r})")
    unknown = labels.isna().tolist()
    return {
        question_id: None if blank else _label(value)
        for question_id, value, blank in zip(ids, labels.tolist(), unknown, strict=True)
    }


def _label(value: Any) -> Any:
    """Return an int for what equals 0 or 1, None for nan."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return int(value) if not isinstance(value, str) and value in (0, 1) else value
