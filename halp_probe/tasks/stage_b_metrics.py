"""How often Stage-B's verdicts are the groups' labels, and how often they are wrong in each direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from halp_probe.tasks.stage_b import Decision, GroupItem
from halp_probe.tasks.stage_groups import FAIL, PASS


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One group that was asked about, and what was said; `reply` as it came."""

    item: GroupItem
    decision: Decision
    reply: str


def metrics(judged: Sequence[Judged], not_answered: Sequence[str]) -> dict[str, Any]:
    """All numbers, and once more for each mission where there are several. JSON values; a rate of nothing is null.

    `not_answered` are the missions of groups without a reply: these are counted, and stand in no rate.
    """
    found = _of(judged, len(not_answered))
    names = dict.fromkeys([*(each.item.mission for each in judged), *not_answered])
    if len(names) > 1:
        found["missions"] = {
            name: _of([each for each in judged if each.item.mission == name], not_answered.count(name))
            for name in names
        }
    return found


def _of(judged: Sequence[Judged], n_not_answered: int) -> dict[str, Any]:
    said = [(each.item.label, each.decision.verdict) for each in judged]
    valid = [pair for pair in said if pair[1] is not None]
    right = sum(label == verdict for label, verdict in valid)
    return {
        "groups": len(said) + n_not_answered,
        "not_answered": n_not_answered,
        "answered": len(said),
        "valid": len(valid),
        "invalid": len(said) - len(valid),
        "accuracy_of_valid": _rate(right, len(valid), "no valid verdict"),
        "accuracy_invalid_as_wrong": _rate(right, len(said), "no reply"),
        "false_pass_rate": _wrong(valid, FAIL, PASS),
        "false_fail_rate": _wrong(valid, PASS, FAIL),
        "verdicts_by_label": {
            label: {str(verdict or "invalid"): said.count((label, verdict)) for verdict in (PASS, FAIL, None)}
            for label in (PASS, FAIL)
        },
    }


def _wrong(valid: Sequence[tuple[str, str | None]], label: str, verdict: str) -> dict[str, Any]:
    """Of the valid verdicts on groups with this label, those that say `verdict`."""
    said = [each for of, each in valid if of == label]
    return _rate(said.count(verdict), len(said), f"no valid verdict on a group labelled {label}")


def _rate(count: int, of: int, without: str) -> dict[str, Any]:
    """`value` = count / of; null, with the reason, where there is nothing to divide by."""
    if of == 0:
        return {"value": None, "count": 0, "of": 0, "reason": without}
    return {"value": count / of, "count": count, "of": of}
