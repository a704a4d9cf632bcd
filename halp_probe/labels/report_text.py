"""Text of a report on labels: a page in Markdown, and a few lines for a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from halp_probe.labels.report import SIDES, LabelReport, Tally
from halp_probe.labels.table import LabelRow
from halp_probe.plain_text import shorten

_LONGEST = 300  # characters of a text in the page
_REASONS = 12  # in the list of reasons; the rest is counted


def page(report: LabelReport, name: str, sheet: str) -> str:
    """Return the page on the labels in the file `name`; `sheet` is the name of the sheet to check by hand."""
    parts = [
        f"# What {name} rests on",
        _counts(report.whole),
        "## Which way it leans",
        "The share of hallucinated answers, under four readings of what is not certain:",
        _table(("reading", "hallucinated"), _leaning(report.whole)),
        _absence(report.whole),
        "## By rule",
        _tally_table("rule", report.rules),
    ]
    for column, tallies in report.columns.items():
        parts += [f"## By {column}", _tally_table(column, tallies)]
    if report.unknown_reasons:
        parts += ["## Why answers are unknown", _table(("reason", "answers"), _reasons(report.unknown_reasons))]
    parts += ["## Samples", "Up to three of each rule and verdict, drawn at random.", *_samples(report)]
    parts += [
        "## Check it",
        f"`{sheet}` holds a random sample of every rule and verdict, without the verdicts. Fill in `your_label` (0 "
        "right, 1 hallucinated; leave empty what you cannot tell), then run "
        f"`halp-probe label --labels {name} --check {sheet}`: it gives Cohen's kappa, and the share of wrong "
        "labels in the whole table with an interval.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def lines(report: LabelReport) -> str:
    """Return the report's numbers in a few lines, for a terminal."""
    told = [f"hallucinated {share}: {reading}" for reading, share in _leaning(report.whole)]
    return "\n".join(part for part in (*told, _absence(report.whole)) if part)


def _counts(tally: Tally) -> str:
    numbers = {"right": tally.right, "hallucinated": tally.wrong, "unknown": tally.unknown}
    shares = ", ".join(f"{number} {side} ({_percent(_of(number, tally.total))})" for side, number in numbers.items())
    return f"{tally.total} answers: {shares}."


def _leaning(tally: Tally) -> list[tuple[str, str]]:
    shares = {
        "of the answers with a label": tally.decided,
        "of all, if the unknown were all right": tally.if_unknown_right,
        "of all, if the unknown were all hallucinated": tally.if_unknown_wrong,
        "of the answers with a label, if those decided by absence were right": tally.if_absence_right,
    }
    return [(reading, _percent(share)) for reading, share in shares.items()]


def _absence(tally: Tally) -> str:
    if not tally.by_absence:
        return ""
    share = _percent(_of(tally.by_absence, tally.wrong))
    return (
        f"Of {tally.wrong} answers called hallucinated, {tally.by_absence} ({share}) are so called because they do not "
        "say the ground truth, which another wording of it does not either."
    )


def _tally_table(name: str, tallies: Mapping[str, Tally]) -> str:
    heads = (
        name,
        "answers",
        "right",
        "hallucinated",
        "of these by absence",
        "unknown",
        "hallucinated, of those decided",
    )
    rows = [
        (value or "(none)", own.total, own.right, own.wrong, own.by_absence, own.unknown, _range(own))
        for value, own in tallies.items()
    ]
    return _table(heads, rows)


def _range(tally: Tally) -> str:
    whole = f"{_percent(tally.if_unknown_right)} to {_percent(tally.if_unknown_wrong)}"
    return f"{_percent(tally.decided)} (with the unknown: {whole})" if tally.unknown else _percent(tally.decided)


def _reasons(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    shown = list(reasons.items())
    rest = shown[_REASONS:]
    others = [(f"{len(rest)} other reasons", sum(number for _, number in rest))] if rest else []
    return [*shown[:_REASONS], *others]


def _samples(report: LabelReport) -> list[str]:
    parts = []
    for (rule, label), rows in report.samples.items():
        tally = report.rules[rule]
        number = {0: tally.right, 1: tally.wrong, None: tally.unknown}[label]
        parts.append(f"### {_plain(rule or '(no rule)')}: {SIDES[label]} ({number})")
        parts += [_sample(row) for row in rows]
    return parts


def _sample(row: LabelRow) -> str:
    texts = {
        "question": row.question,
        "ground truth": row.ground_truth or row.truth,
        "answer": row.model_answer or row.answer,
        "because": row.reason,
    }
    told = [f"  - {name}: {_plain(text)}" for name, text in texts.items() if text]
    return "\n".join([f"- **{_plain(row.question_id)}**", *told])


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_plain(str(cell)) for cell in line) + " |" for line in lines)


def _plain(text: str) -> str:
    """Return a text as one line that Markdown shows as it is."""
    one_line = shorten(" ".join(text.split()), _LONGEST)
    return re.sub(r"([\\`*_<>\[\]|#])", r"\\\1", one_line)


def _of(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _percent(share: float) -> str:
    return "undefined" if math.isnan(share) else f"{100 * share:.1f} %"
