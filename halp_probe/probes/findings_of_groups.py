"""Findings about groups of rows: what a lookup of a column knows, and what is left within its groups.

Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from halp_probe.probes.baselines import LOOKUP
from halp_probe.probes.features import LabelledRows
from halp_probe.probes.judging.groups import GroupResults
from halp_probe.probes.remarks import CAUTION, NOTE, SERIOUS, Finding, listed, two_digits, with_interval
from halp_probe.probes.results import Judgement
from halp_probe.probes.shortcuts import Shortcut
from halp_probe.probes.transfer import MOST_GROUPS, Transfer

MUCH_LOST_WITHIN = 0.05  # AUROC, from the whole to the mean within groups
MANY_WITH_ONE_LABEL = 0.05  # share of the rows that are in groups of one label
MUCH_OF_THE_GAIN = 0.5  # of what the headline has above chance, that a lookup of one column reaches
RARE = 0.01  # chance at which groups of one label are taken for more than chance


def of_groups(
    judgement: Judgement,
    rows: LabelledRows,
    groups: Mapping[str, GroupResults],
    transfers: Sequence[Transfer],
    shortcuts: Sequence[Shortcut],
) -> Iterator[Finding]:
    """Yield what the groups of named columns, and the columns that nobody named, say against the headline."""
    yield from _lookups(judgement)
    yield from _shortcuts(judgement, shortcuts)
    yield from _one_label(judgement, groups)
    yield from _within_groups(judgement, groups)
    yield from _transfers(transfers, rows)


def _shortcuts(judgement: Judgement, shortcuts: Sequence[Shortcut]) -> Iterator[Finding]:
    """Find columns that nobody named although a lookup of them predicts the label; one finding a level."""
    headline = judgement.headline
    gain = headline.auroc.value - 0.5
    for level in (SERIOUS, CAUTION):
        here = [each for each in shortcuts if (each.auroc.value - 0.5 >= MUCH_OF_THE_GAIN * gain) == (level == SERIOUS)]
        if not here:
            continue
        told = "; ".join(f"`{each.column}` {with_interval(each.auroc)}{_leaking(each)}" for each in here)
        advice = [f"`{each.column}`" for each in here if not each.leak]
        remedy = (
            f" Name {listed(advice, len(advice))} in `group_columns`, to make it a baseline and to judge the "
            "probe within its groups."
            if advice
            else ""
        )
        yield Finding(
            level,
            "A lookup of a column that is no group column predicts the label, without image or model (the "
            f"{headline.title}: {two_digits(headline.auroc.value)}): {told}.{remedy}",
        )


def _leaking(shortcut: Shortcut) -> str:
    return f", which gives the ground truth away ({shortcut.leak})" if shortcut.leak else ""


def _one_label(judgement: Judgement, groups: Mapping[str, GroupResults]) -> Iterator[Finding]:
    """Find groups that have one label only: to tell them from the others counts as success."""
    headline = judgement.headline
    for column, grouped in groups.items():
        found = grouped.one_label
        if found is None or found.chance > RARE:
            continue
        named = [f"`{group.value}` ({group.n} of label {int(group.n_positive > 0)})" for group in found.groups]
        without = found.auroc_without
        rest = (
            f"without them the {headline.title} reaches {with_interval(without)}, over all rows "
            f"{two_digits(headline.auroc.value)}"
            if np.isfinite(without.value)
            else f"without them it has no AUROC: {without.note}"
        )
        yield Finding(
            SERIOUS if found.share >= MANY_WITH_ONE_LABEL else CAUTION,
            f"`{column}`: {len(found.groups)} of {len(grouped.groups)} groups have one label only, {found.share:.0%} "
            f"of the rows: {listed(named)}. To tell these groups apart counts as success; {rest}.",
        )


def _lookups(judgement: Judgement) -> Iterator[Finding]:
    """Find lookups of a column that predict the label."""
    known = [result for result in judgement.of_kind("representation") if np.isfinite(result.auroc.value)]
    vision = [result for result in known if (result.position or "").startswith("vision")]
    for result in judgement.of_kind("baseline"):
        value = result.auroc.value
        if not result.name.startswith(LOOKUP) or not result.auroc.low > 0.5:
            continue
        column = result.name.removeprefix(LOOKUP)
        beaten = ""
        if value >= judgement.headline.auroc.value:
            beaten = f"above the {judgement.headline.title} ({two_digits(judgement.headline.auroc.value)})"
        elif vision and value >= max(r.auroc.value for r in vision):
            beaten = "above every vision probe"
        if beaten:
            yield Finding(
                SERIOUS,
                f"A lookup of `{column}` reaches {two_digits(value)}: {beaten}. It knows neither the image nor the "
                "model.",
            )


def _within_groups(judgement: Judgement, groups: Mapping[str, GroupResults]) -> Iterator[Finding]:
    whole = judgement.headline.auroc.value
    for column, grouped in groups.items():
        within = grouped.macro.value
        if np.isfinite(within) and whole - within > MUCH_LOST_WITHIN:
            yield Finding(
                CAUTION,
                f"Within the groups of `{column}` the {judgement.headline.title} reaches {two_digits(within)} on "
                f"average, over all rows {two_digits(whole)}: part of it tells the groups apart.",
            )


def _transfers(transfers: Sequence[Transfer], rows: LabelledRows) -> Iterator[Finding]:
    for column, values in rows.groups.items():
        if len(set(values)) > MOST_GROUPS:
            yield Finding(
                NOTE, f"`{column}` has {len(set(values))} groups, too many to try transfer from each to each."
            )
    for transfer in transfers:
        inverted = [
            (a, b)
            for a, row in zip(transfer.values, transfer.cells, strict=True)
            for b, cell in zip(transfer.values, row, strict=True)
            if a != b and cell.auroc.high < 0.5
        ]
        if inverted:
            pairs = ", ".join(f"from `{a}` to `{b}`" for a, b in inverted[:3]) + (", …" if len(inverted) > 3 else "")
            yield Finding(
                CAUTION,
                f"Trained on one group of `{transfer.column}`, the probe ranks another the wrong way round ({pairs}): "
                "it does not read the same thing in all groups.",
            )
