"""Metrics of Stage-B: how often verdicts equal the groups' labels, and how often they are wrong in each direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from halp_probe.tasks.stage_b import Decision, GroupItem
from halp_probe.tasks.stage_groups import FAIL, PASS


@dataclass(frozen=True, kw_only=True)
class GroupVerdict:
    """Group that was asked about, with the decision and the reply as received."""

    item: GroupItem
    decision: Decision
    reply: str


def metrics(verdicts: Sequence[GroupVerdict], not_answered: Sequence[str]) -> dict[str, Any]:
    """Return all rates, and those of each mission where there are several, as JSON values; a rate of nothing is null.

    `not_answered` are the missions of groups without a reply: these are counted, but enter no rate.
    """
    found = _rates(verdicts, len(not_answered))
    names = dict.fromkeys([*(each.item.mission for each in verdicts), *not_answered])
    if len(names) > 1:
        found["missions"] = {
            name: _rates([each for each in verdicts if each.item.mission == name], not_answered.count(name))
            for name in names
        }
    return found


def _rates(verdicts: Sequence[GroupVerdict], n_not_answered: int) -> dict[str, Any]:
    pairs = [(each.item.label, each.decision.verdict) for each in verdicts]
    valid = [pair for pair in pairs if pair[1] is not None]
    right = sum(label == verdict for label, verdict in valid)
    return {
        "groups": len(pairs) + n_not_answered,
        "not_answered": n_not_answered,
        "answered": len(pairs),
        "valid": len(valid),
        "invalid": len(pairs) - len(valid),
        "accuracy_of_valid": _rate(right, len(valid), "no valid verdict"),
        "accuracy_invalid_as_wrong": _rate(right, len(pairs), "no reply"),
        "false_pass_rate": _wrong(valid, FAIL, PASS),
        "false_fail_rate": _wrong(valid, PASS, FAIL),
        "verdicts_by_label": {
            label: {str(verdict or "invalid"): pairs.count((label, verdict)) for verdict in (PASS, FAIL, None)}
            for label in (PASS, FAIL)
        },
    }


def _wrong(valid: Sequence[tuple[str, str | None]], label: str, verdict: str) -> dict[str, Any]:
    """Return the rate at which valid verdicts on groups with this label say `verdict`."""
    verdicts = [each for of, each in valid if of == label]
    return _rate(verdicts.count(verdict), len(verdicts), f"no valid verdict on a group labelled {label}")


def _rate(count: int, of: int, without: str) -> dict[str, Any]:
    """Return `value` = count / of; null, with the reason, where there is nothing to divide by."""
    if of == 0:
        return {"value": None, "count": 0, "of": 0, "reason": without}
    return {"value": count / of, "count": count, "of": of}
