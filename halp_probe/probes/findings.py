"""Findings: what a sceptical reader must know before believing the numbers, in plain words.

Legend: N rows, K folds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from halp_probe.probes.features import LabelledRows
from halp_probe.probes.findings_of_groups import of_groups
from halp_probe.probes.findings_of_rows import of_rows
from halp_probe.probes.fitting.splits import Folds
from halp_probe.probes.judging.groups import GroupResults
from halp_probe.probes.label_noise import LabelNoise
from halp_probe.probes.layer_map import LayerMap
from halp_probe.probes.left_out import Contrast
from halp_probe.probes.names import ISOTONIC, PLATT
from halp_probe.probes.nested_preset import NestedNumber
from halp_probe.probes.remarks import CAUTION, LEVELS, NOTE, SERIOUS, Finding, listed, two_digits, with_interval
from halp_probe.probes.results import Judgement
from halp_probe.probes.shortcuts import Shortcut
from halp_probe.probes.sweep import Sweep
from halp_probe.probes.transfer import Transfer

FEWEST_FOR_ISOTONIC = 500  # rows of the rarer label, for a slope of about .9


def findings(
    judgement: Judgement,
    sweep: Sweep,
    rows: LabelledRows,
    folds: Folds,
    groups: Mapping[str, GroupResults],
    transfers: Sequence[Transfer] = (),
    preset: str | None = None,
    noise: LabelNoise | None = None,
    *,
    contrasts: Sequence[Contrast] = (),
    shortcuts: Sequence[Shortcut] = (),
    layers: LayerMap | None = None,
    nested: NestedNumber | None = None,
    calibration: str = PLATT,
) -> list[Finding]:
    """Return all findings, the most serious first."""
    found = [
        *of_rows(rows, folds, preset, contrasts),
        *(_nested(judgement, nested) if nested is not None else ()),
        *_choice(judgement, sweep, folds),
        *(_layers(judgement, layers) if layers is not None else ()),
        *of_groups(judgement, rows, groups, transfers, shortcuts),
        *_baselines(judgement),
        *_added(judgement),
        *(_isotonic(rows) if calibration == ISOTONIC and sweep.selected else ()),
        *_controls(judgement, sweep),
        *(_label_noise(judgement, noise) if noise is not None else ()),
    ]
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def _nested(judgement: Judgement, nested: NestedNumber) -> Iterator[Finding]:
    """Set the honest number beside that of a published design."""
    if np.isfinite(nested.auroc.value):
        yield Finding(
            SERIOUS,
            f"The same probes, with the representation chosen inside the training rows and judged by {nested.folds} "
            f"folds that keep images apart, reach {with_interval(nested.auroc)}, where the published design says "
            f"{judgement.headline.auroc.value:.3f}: quote the first.",
        )
    else:
        yield Finding(CAUTION, f"No honest number stands beside that of the published design: {nested.auroc.note}.")


def _choice(judgement: Judgement, sweep: Sweep, folds: Folds) -> Iterator[Finding]:
    known = [result for result in judgement.of_kind("representation") if np.isfinite(result.auroc.value)]
    if sweep.selected is None and len(known) > 1:
        yield Finding(
            SERIOUS,
            f"{judgement.headline.title} is the best of {len(known)}, picked on the very rows that judge it: its "
            "number flatters it.",
        )
    if sweep.selected and len(known) > 1:
        name, count = sweep.selected.counts.most_common(1)[0]
        total = sum(sweep.selected.counts.values())
        if count <= total / 2:
            yield Finding(
                CAUTION,
                f"No representation stands out: the inner folds chose {len(sweep.selected.counts)} different ones in "
                f"{total} folds ({judgement.result(name).title} in {count}).",
            )
    for result in known:
        edges = {min(sweep.fits[result.name].candidates), max(sweep.fits[result.name].candidates)}
        at_edge = sum(value in edges for value in result.chosen)
        if result.selected_in and at_edge == len(result.chosen) > 0:
            ends = ", ".join(f"{value:g}" for value in sorted(set(result.chosen)))
            yield Finding(
                NOTE,
                f"{result.title}: every fold chose a strength of the penalty at the end of what was tried ({ends}); a "
                "wider range (`strengths`) may do better.",
            )


def _layers(judgement: Judgement, layers: LayerMap) -> Iterator[Finding]:
    """Say what holds of the representations when all are judged at once."""
    count = len(layers.estimates)
    if count < 2 or not np.isfinite(layers.estimates[layers.best].value):
        return
    best, rivals = judgement.result(layers.best), layers.rivals
    above = f"{len(layers.above_chance)} of {count} representations are shown to be above .5"
    names = [judgement.result(name).title for name in rivals]
    beaten = f"than {count - 1 - len(rivals)} of the other {count - 1}, but not than {listed(names)}"
    beaten = beaten if rivals else "than each of the others"
    shown = f"is shown to be better {beaten}" if len(rivals) < count - 1 else "is not shown to be better than any other"
    yield Finding(NOTE, f"With all representations judged at once, {above}; {best.title}, the highest, {shown}.")


def _baselines(judgement: Judgement) -> Iterator[Finding]:
    best, headline = judgement.best_baseline, judgement.headline
    if best is None or not np.isfinite(headline.auroc.value):
        return
    difference = judgement.difference(headline.name, best.name)
    if judgement.are_the_same(headline.name, best.name):
        yield Finding(
            SERIOUS,
            f"The {headline.title} is the baseline {best.title}: every fold chose its representation, so there is no "
            "difference to judge. It adds nothing to that baseline.",
        )
    elif not difference.low > 0:
        verdict = "is worse than" if difference.high < 0 else "is not shown to be better than"
        yield Finding(
            SERIOUS if not difference.value > 0 else CAUTION,
            f"The {headline.title} {verdict} {best.title} ({two_digits(best.auroc.value)}): the difference is "
            f"{with_interval(difference)}.",
        )
    for result in judgement.of_kind("baseline"):
        if result.is_known_afterwards and result is not best and result.auroc.value > headline.auroc.value:
            yield Finding(
                NOTE,
                f"{result.title} reaches {with_interval(result.auroc)}, above the {headline.title}. Whoever can wait "
                "for the answer has it for nothing; a probe that is read before the answer has no such rival.",
            )


def _isotonic(rows: LabelledRows) -> Iterator[Finding]:
    """Warn of an isotonic map that has too few rows to follow."""
    label = int(rows.y.mean() < 0.5)
    count = int((rows.y == label).sum())
    if count < FEWEST_FOR_ISOTONIC:
        yield Finding(
            CAUTION,
            f"Isotonic calibration has {count} rows of label {label} to follow, and its risks are too extreme: in "
            "simulations the log-odds of what happened rose only .45 to .7 times as fast as those of its risks with 60 "
            "such rows, .7 to .8 times with 120 to 240, .9 times from 500 on. Platt's was right with all.",
        )


def _added(judgement: Judgement) -> Iterator[Finding]:
    """Tell whether the probe adds anything to all baselines together."""
    for added in judgement.added[:1]:
        if not np.isfinite(added.gain.value) or added.gain.low > 0:
            continue
        yield Finding(
            SERIOUS if not added.gain.value > 0 else CAUTION,
            f"The probe is not shown to add anything to {added.title} taken together "
            f"({added.without.value:.3f}): with it they reach {added.with_probe.value:.3f}, a difference of "
            f"{with_interval(added.gain)}.",
        )


def _controls(judgement: Judgement, sweep: Sweep) -> Iterator[Finding]:
    count = sum(control.expected is not None for control in sweep.controls)
    by_chance = 1 - 0.95**count
    for control in sweep.controls:
        result = judgement.result(control.name)
        auroc = result.auroc
        if control.expected is None:
            if auroc.low > 0.5:
                yield Finding(
                    NOTE,
                    f"Split by row instead of by image, a probe of random labels would reach {with_interval(auroc)}: "
                    "that is how much it can remember of the images.",
                )
        elif auroc.low > control.expected or auroc.high < control.expected:
            yield Finding(
                CAUTION,
                f"The control with {result.title} gives {with_interval(auroc)} instead of .5. With {count} such "
                f"{'control' if count == 1 else 'controls'} chance does this to one or another in about "
                f"{by_chance:.0%} of studies; with another `seed` it should not.",
            )


def _label_noise(judgement: Judgement, noise: LabelNoise) -> Iterator[Finding]:
    auroc = judgement.headline.auroc.value
    if bounds := noise.bounds.get(judgement.headline.name):
        yield Finding(
            CAUTION,
            f"{bounds.unknown} answers whose label is unknown are not in these numbers. The AUROC {auroc:.3f} would be "
            f"{bounds.if_right.value:.3f} were they all right and {bounds.if_wrong.value:.3f} were they all "
            f"hallucinated; however they are labelled, it is between {bounds.lowest:.3f} and {bounds.highest:.3f}.",
        )
    if noise.errors is not None and noise.corrected is not None:
        wrong, right = noise.errors.right_of_wrong, noise.errors.wrong_of_right
        shares = f"{100 * wrong.value:.1f} % of label 1 and {100 * right.value:.1f} % of label 0"
        checked = f"By {noise.errors.checked} labels that were checked by hand, {shares} are wrong."
        found = noise.corrected
        told = (
            f"On true labels the AUROC would be {found.value:.3f} ({found.low:.3f} to {found.high:.3f}), if errors do "
            "not depend on the probe's score."
        )
        yield Finding(CAUTION, f"{checked} {told if np.isfinite(found.value) else f'No correction: {found.note}.'}")
