"""Metrics of how well described objects match true ones over many replies, in place and in description.

Every record with a ground truth and a reply counts, including replies that were cut off or could not be read, but not
those whose places are in no thousandths, as it seems (`other_units`); only objects without a problem count as
described. A share of nothing is None.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from halp_probe.tasks.dense_caption import DenseItem, judge, true_objects
from halp_probe.tasks.geometry import KINDS, DenseObject
from halp_probe.tasks.grouped_json import Reading
from halp_probe.tasks.matching import Match, match

_DIGITS = 4


def metrics(items: Sequence[DenseItem], readings: Mapping[str, Reading], iou: float) -> dict[str, Any]:
    """Return the metrics of all items; `readings` has the keys of those with a reply."""
    replied = [item for item in items if item.key in readings]
    judged = [item for item in replied if item.truth and readings[item.key].other_units is None]
    described = [one for item in judged for one in readings[item.key].objects]
    true = [one for item in judged for one in true_objects(item)]
    pairs = [pair for item in judged for pair in match(readings[item.key].objects, true_objects(item), iou)]
    verdicts = [judge(item, readings[item.key]).label for item in replied]
    return {
        "records": len(items),
        "replies": len(replied),
        "with_ground_truth": len(judged),
        "without_problem": sum(not readings[item.key].problems for item in replied),
        "cut_off": sum(readings[item.key].cut_off for item in replied),
        "problems": sum(len(readings[item.key].problems) for item in replied),
        "other_units": sum(readings[item.key].other_units is not None for item in replied),
        "iou": iou,
        **_places(described, true, len(pairs)),
        "mean_iou": _share(sum(pair.iou for pair in pairs), len(pairs)),
        "same_description": _share(sum(_same(pair) for pair in pairs), len(pairs)),
        "description_similarity": _share(
            sum(similarity(pair.described.desc, pair.true.desc) for pair in pairs), len(pairs)
        ),
        "same_place_and_description": _places(described, true, sum(map(_same, pairs))),
        "recall_by_geometry": {
            kind: _share(sum(pair.true.kind == kind for pair in pairs), sum(one.kind == kind for one in true))
            for kind in KINDS
        },
        "labels": {"right": verdicts.count(0), "hallucinated": verdicts.count(1), "unknown": verdicts.count(None)},
    }


def similarity(one: str, other: str) -> float:
    """Return difflib's ratio of characters: 1 for texts that read the same, 0 without a character in common."""
    return SequenceMatcher(None, _normal(one), _normal(other), autojunk=False).ratio()


def _places(described: Sequence[DenseObject], true: Sequence[DenseObject], matched: int) -> dict[str, Any]:
    return {
        "described": len(described),
        "true": len(true),
        "matched": matched,
        "precision": _share(matched, len(described)),
        "recall": _share(matched, len(true)),
        "f1": _share(2 * matched, len(described) + len(true)),
    }


def _share(part: float, whole: int) -> float | None:
    return round(part / whole, _DIGITS) if whole else None


def _same(pair: Match) -> bool:
    return _normal(pair.described.desc) == _normal(pair.true.desc)


def _normal(text: str) -> str:
    """Return the text without differences in width, case and spacing."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
