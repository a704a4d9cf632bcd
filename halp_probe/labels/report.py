"""Report on a table of labels: counts by rule and by column, what absence decided, and which way it leans."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from halp_probe.labels.by_absence import rests_on_absence
from halp_probe.labels.table import LabelRow, count
from halp_probe.labels.verdict import RIGHT, WRONG

SIDES: Mapping[int | None, str] = {RIGHT: "right", WRONG: "hallucinated", None: "unknown"}
_SAMPLES = 3  # of each rule and verdict
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Numbers of answers; `by_absence` are those of `wrong` that are so called for what they do not say."""

    right: int
    wrong: int
    unknown: int
    by_absence: int

    @property
    def total(self) -> int:
        """All answers."""
        return self.right + self.wrong + self.unknown

    @property
    def decided(self) -> float:
        """Share of hallucinated answers among those with a label; nan without one."""
        return _share(self.wrong, self.right + self.wrong)

    @property
    def if_unknown_right(self) -> float:
        """Share of hallucinated answers if all unknown ones were right."""
        return _share(self.wrong, self.total)

    @property
    def if_unknown_wrong(self) -> float:
        """Share of hallucinated answers if all unknown ones were hallucinated."""
        return _share(self.wrong + self.unknown, self.total)

    @property
    def if_absence_right(self) -> float:
        """Share of hallucinated answers among the decided if those that absence decided were right."""
        return _share(self.wrong - self.by_absence, self.right + self.wrong)


@dataclass(frozen=True, kw_only=True)
class LabelReport:
    """Report on a table of labels.

    `samples`: up to three rows of each rule and verdict, drawn with a fixed seed; `columns`: by value of each column.
    """

    whole: Tally
    rules: Mapping[str, Tally]
    columns: Mapping[str, Mapping[str, Tally]]
    unknown_reasons: Mapping[str, int]
    samples: Mapping[tuple[str, int | None], tuple[LabelRow, ...]]


def report(rows: Sequence[LabelRow], columns: Mapping[str, Mapping[str, str]] | None = None) -> LabelReport:
    """Report on the rows; `columns`: column -> question id -> its value, to tell groups of answers apart."""
    groups = {
        name: {
            value: _tally(own) for value, own in _by(rows, [values.get(row.question_id, "") for row in rows]).items()
        }
        for name, values in (columns or {}).items()
    }
    return LabelReport(
        whole=_tally(rows),
        rules={rule: _tally(own) for rule, own in _by(rows, [row.rule for row in rows]).items()},
        columns=groups,
        unknown_reasons=dict(Counter(row.reason for row in rows if row.label is None).most_common()),
        samples={stratum: _draw(own) for stratum, own in strata(rows).items()},
    )


def strata(rows: Sequence[LabelRow]) -> dict[tuple[str, int | None], list[LabelRow]]:
    """Return the rows of each rule and verdict, by rule, then right, hallucinated, unknown."""
    found: dict[tuple[str, int | None], list[LabelRow]] = {}
    for row in rows:
        found.setdefault((row.rule, row.label), []).append(row)
    return {key: found[key] for key in sorted(found, key=lambda key: (key[0], list(SIDES).index(key[1])))}


def _by(rows: Sequence[LabelRow], values: Sequence[str]) -> dict[str, list[LabelRow]]:
    found: dict[str, list[LabelRow]] = {}
    for row, value in zip(rows, values, strict=True):
        found.setdefault(value, []).append(row)
    return dict(sorted(found.items()))


def _tally(rows: Sequence[LabelRow]) -> Tally:
    counts = count(rows)
    by_absence = sum(rests_on_absence(row.rule, row.label, row.reason) for row in rows)
    return Tally(right=counts.right, wrong=counts.wrong, unknown=counts.unknown, by_absence=by_absence)


def _draw(rows: Sequence[LabelRow]) -> tuple[LabelRow, ...]:
    return tuple(random.Random(_SEED).sample(list(rows), min(_SAMPLES, len(rows))))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
