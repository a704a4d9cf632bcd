"""How well described objects match true ones, over many replies: places, then what is said of them.

Every record with a ground truth and a reply counts, also where the reply was cut off or could not be read: only objects
without a problem count as described. A share of nothing is None.
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
    """Of all items; `readings` has the keys of those with a reply."""
    replied = [item for item in items if item.key in readings]
    known = [item for item in replied if item.truth]
    told = [one for item in known for one in readings[item.key].objects]
    true = [one for item in known for one in true_objects(item)]
    pairs = [pair for item in known for pair in match(readings[item.key].objects, true_objects(item), iou)]
    verdicts = [judge(item, readings[item.key]).label for item in replied]
    return {
        "records": len(items),
        "replies": len(replied),
        "with_ground_truth": len(known),
        "without_problem": sum(not readings[item.key].problems for item in replied),
        "cut_off": sum(readings[item.key].cut_off for item in replied),
        "problems": sum(len(readings[item.key].problems) for item in replied),
        "iou": iou,
        **_places(told, true, len(pairs)),
        "mean_iou": _share(sum(pair.iou for pair in pairs), len(pairs)),
        "same_description": _share(sum(_same(pair) for pair in pairs), len(pairs)),
        "description_similarity": _share(sum(similarity(pair.told.desc, pair.true.desc) for pair in pairs), len(pairs)),
        "same_place_and_description": _places(told, true, sum(map(_same, pairs))),
        "recall_by_geometry": {
            kind: _share(sum(pair.true.kind == kind for pair in pairs), sum(one.kind == kind for one in true))
            for kind in KINDS
        },
        "labels": {"right": verdicts.count(0), "hallucinated": verdicts.count(1), "unknown": verdicts.count(None)},
    }


def similarity(one: str, other: str) -> float:
    """1 for two texts that read the same, 0 for two without a character in common: difflib's ratio of characters."""
    return SequenceMatcher(None, _normal(one), _normal(other), autojunk=False).ratio()


def _places(told: Sequence[DenseObject], true: Sequence[DenseObject], matched: int) -> dict[str, Any]:
    return {
        "described": len(told),
        "true": len(true),
        "matched": matched,
        "precision": _share(matched, len(told)),
        "recall": _share(matched, len(true)),
        "f1": _share(2 * matched, len(told) + len(true)),
    }


def _share(part: float, whole: int) -> float | None:
    return round(part / whole, _DIGITS) if whole else None


def _same(pair: Match) -> bool:
    return _normal(pair.told.desc) == _normal(pair.true.desc)


def _normal(text: str) -> str:
    """Without differences in width, case and spacing."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
