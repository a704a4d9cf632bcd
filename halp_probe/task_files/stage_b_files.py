"""Output of Stage-B: `…_stage_b.jsonl`, one line a group, and `…_stage_b_metrics.json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from halp_probe.files import atomic_text
from halp_probe.task_files.json_lines import json_line
from halp_probe.tasks.stage_b_metrics import GroupVerdict


def write_verdicts(path: Path, verdicts: Sequence[GroupVerdict]) -> None:
    """Replace the file; it gets one line for each group that has a reply."""
    with atomic_text(path) as file:
        file.writelines(json_line(as_json(each)) for each in verdicts)


def as_json(verdict: GroupVerdict) -> dict[str, Any]:
    """Return the fields of a line; `verdict` is null, and `problem` says why, where the reply has another form."""
    item, decision = verdict.item, verdict.decision
    return {
        "group_id": item.group_id,
        "mission": item.mission,
        "label": item.label,
        "verdict": decision.verdict,
        "reason": decision.reason,
        "valid": decision.verdict is not None,
        "problem": decision.problem,
        "reply": verdict.reply,
    }
