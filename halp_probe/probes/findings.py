"""Findings: what a sceptical reader must know before believing the numbers, in plain words.

Legend: N rows, K folds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from halp_probe.bootstrap import Estimate
from halp_probe.catalog.entries import BENCHMARKS
from halp_probe.probes.baselines import LOOKUP
from halp_probe.probes.features import LabelledRows
from halp_probe.probes.fitting.splits import Folds, images_on_both_sides
from halp_probe.probes.judging.groups import GroupResults
from halp_probe.probes.judging.intervals import too_narrow
from halp_probe.probes.label_noise import LabelNoise
from halp_probe.probes.results import Judgement
from halp_probe.probes.sweep import Sweep
from halp_probe.probes.transfer import MOST_GROUPS, Transfer

SERIOUS, CAUTION, NOTE = "serious", "caution", "note"
LEVELS = (SERIOUS, CAUTION, NOTE)
FEW_POSITIVES = 15  # of the rarer label in a test fold
MANY_UNKNOWN = 0.1  # share of the samples left out
MANY_WITH_ONE_TRUTH = 0.1  # share of the rows that are in a group with one ground truth
MUCH_LOST_WITHIN = 0.05  # AUROC, from the whole to the mean within groups


@dataclass(frozen=True)
class Finding:
    """Remark on a study and how serious it is."""

    level: str  # one of LEVELS
    text: str


def findings(
    judgement: Judgement,
    sweep: Sweep,
    rows: LabelledRows,
    folds: Folds,
    groups: Mapping[str, GroupResults],
    transfers: Sequence[Transfer] = (),
    preset: str | None = None,
    noise: LabelNoise | None = None,
) -> list[Finding]:
    """Return all findings, the most serious first."""
    found = [
        *_split(rows, folds, preset),
        *_known_faults(rows),
        *_leaks(rows),
        *_choice(judgement, sweep, folds),
        *_lookups(judgement),
        *_baselines(judgement),
        *_controls(judgement, sweep),
        *_within_groups(judgement, groups),
        *_transfers(transfers, rows),
        *_few_rows(rows, folds),
        *_left_out(rows),
        *(_label_noise(judgement, noise) if noise is not None else ()),
    ]
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def _split(rows: LabelledRows, folds: Folds, preset: str | None) -> Iterator[Finding]:
    both = images_on_both_sides(folds, rows.image_codes)
    if both:
        yield Finding(
            SERIOUS,
            f"{both} of {len(set(rows.images))} images are on both sides of the split, in training and in test: what a "
            "probe remembers of an image counts as success.",
        )
    if preset == "halp":
        yield Finding(
            SERIOUS,
            "This is HALP's published design, kept to compare with its numbers: one split by row, 50 epochs without "
            "validation rows or standardisation, the last epoch judged, and no seed of torch is part of it.",
        )
    if not folds.tested.all():
        yield Finding(
            CAUTION,
            f"One split: {int(folds.tested.sum())} of {len(rows.y)} rows judge, and each interval covers these rows "
            "only; another split would give another number.",
        )
    if rows.images_identified_by != "image_sha256":
        yield Finding(
            CAUTION,
            f"Images are told apart by {rows.images_identified_by}, since the shards lack the hash of the files' "
            "content: copies of one file under two names may be on both sides.",
        )


def _known_faults(rows: LabelledRows) -> Iterator[Finding]:
    """Tell what is known to be wrong with the benchmarks of the rows, and which groups give the truth away."""
    for name in rows.datasets:
        benchmark = BENCHMARKS.get(name)
        if benchmark is None:
            continue
        for column in rows.groups:
            if column in benchmark.leaks:
                yield Finding(
                    SERIOUS,
                    f"`{column}` gives the ground truth of {benchmark.title} away: {benchmark.leaks[column]}. A lookup "
                    "of it is no baseline, and its groups are no kinds of question.",
                )
        for fault in benchmark.faults:
            yield Finding(CAUTION, f"{benchmark.title}: {fault}.")
        for oddity in benchmark.mended:
            yield Finding(NOTE, f"{benchmark.title}: {oddity}.")


def _leaks(rows: LabelledRows) -> Iterator[Finding]:
    """Find groups in which every question has the same ground truth although others have another one."""
    if rows.truths is None or len(set(rows.truths)) < 2:
        return
    for column, values in rows.groups.items():
        truths: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for value, truth in zip(values, rows.truths, strict=True):
            truths[value][truth] += 1
        fixed = {value: each for value, each in truths.items() if len(each) == 1 and each.total() >= FEW_POSITIVES}
        share = sum(each.total() for each in fixed.values()) / len(values)
        if share >= MANY_WITH_ONE_TRUTH:
            named = ", ".join(f"`{value}` ({next(iter(each))})" for value, each in list(fixed.items())[:3])
            yield Finding(
                CAUTION,
                f"`{column}` tells the ground truth of {share:.0%} of the rows, since all questions of one group have "
                f"the same: {named}. There a lookup of it knows which answer is right.",
            )


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


def _lookups(judgement: Judgement) -> Iterator[Finding]:
    """Find lookups of a column that predict the label."""
    vision = [
        r
        for r in judgement.of_kind("representation")
        if r.position not in ("query_token", "question_end") and np.isfinite(r.auroc.value)
    ]
    for result in judgement.of_kind("baseline"):
        value = result.auroc.value
        if not result.name.startswith(LOOKUP) or not result.auroc.low > 0.5:
            continue
        column = result.name.removeprefix(LOOKUP)
        beaten = ""
        if value >= judgement.headline.auroc.value:
            beaten = f"above the {judgement.headline.title} ({_number(judgement.headline.auroc.value)})"
        elif vision and value >= max(r.auroc.value for r in vision):
            beaten = "above every vision probe"
        if beaten:
            yield Finding(
                SERIOUS,
                f"A lookup of `{column}` reaches {_number(value)}: {beaten}. It knows neither the image nor the model.",
            )


def _baselines(judgement: Judgement) -> Iterator[Finding]:
    best, headline = judgement.best_baseline, judgement.headline
    if best is None or not np.isfinite(headline.auroc.value):
        return
    difference = judgement.difference(headline.name, best.name)
    if not difference.low > 0:
        yield Finding(
            SERIOUS if not difference.value > 0 else CAUTION,
            f"The {headline.title} is not shown to be better than {best.title} ({_number(best.auroc.value)}): the "
            f"difference is {_estimate(difference)}.",
        )


def _controls(judgement: Judgement, sweep: Sweep) -> Iterator[Finding]:
    for control in sweep.controls:
        result = judgement.result(control.name)
        auroc = result.auroc
        if control.expected is None:
            if auroc.low > 0.5:
                yield Finding(
                    NOTE,
                    f"Split by row instead of by image, a probe of random labels would reach {_estimate(auroc)}: that "
                    "is how much it can remember of the images.",
                )
        elif auroc.low > control.expected or auroc.high < control.expected:
            yield Finding(
                CAUTION,
                f"The control with {result.title} gives {_estimate(auroc)} instead of .5. Chance does this once in "
                "twenty times; with another `seed` it should not.",
            )


def _within_groups(judgement: Judgement, groups: Mapping[str, GroupResults]) -> Iterator[Finding]:
    whole = judgement.headline.auroc.value
    for column, grouped in groups.items():
        within = grouped.macro.value
        if np.isfinite(within) and whole - within > MUCH_LOST_WITHIN:
            yield Finding(
                CAUTION,
                f"Within the groups of `{column}` the {judgement.headline.title} reaches {_number(within)} on "
                f"average, over all rows {_number(whole)}: part of it tells the groups apart.",
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


def _few_rows(rows: LabelledRows, folds: Folds) -> Iterator[Finding]:
    if reason := too_narrow(rows.take_tested(folds), folds.count):
        yield Finding(SERIOUS, f"{reason[0].upper()}{reason[1:]}.")
    for k in range(folds.count):
        counts = np.bincount(rows.y[folds.fold == k], minlength=2)
        if min(counts) < FEW_POSITIVES:
            name = "positives" if counts[1] <= counts[0] else "negatives"
            yield Finding(CAUTION, f"Only {min(counts)} {name} in fold {k}: its AUROC is uncertain.")


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


def _left_out(rows: LabelledRows) -> Iterator[Finding]:
    out, total = len(rows.left_out), len(rows.left_out) + len(rows.y)
    if out > MANY_UNKNOWN * total:
        yield Finding(
            CAUTION,
            f"{out} of {total} samples are left out (left_out.csv): the numbers are about the others, and those may be "
            "the easier ones.",
        )


def _number(value: float) -> str:
    """Format with two digits: .83 for 0.83."""
    return f"{value:.2f}".removeprefix("0")


def _estimate(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})".replace("-", "−")
