"""Findings about the rows of a study: their split, their groups, and what is not among them.

Legend: N rows, K folds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from halp_probe.catalog.entries import BENCHMARKS
from halp_probe.probes.features import LabelledRows
from halp_probe.probes.fitting.splits import Folds, images_on_both_sides
from halp_probe.probes.judging.intervals import too_narrow
from halp_probe.probes.left_out import Contrast
from halp_probe.probes.remarks import CAUTION, NOTE, SERIOUS, Finding, with_interval

FEW_POSITIVES = 15  # of the rarer label in a test fold
MANY_UNKNOWN = 0.1  # share of the samples left out
MANY_WITH_ONE_TRUTH = 0.1  # share of the rows that are in a group with one ground truth
MOVED = 0.2  # share by which the rows left out would change the share of label 1, were they counted


def of_rows(
    rows: LabelledRows, folds: Folds, preset: str | None, contrasts: Sequence[Contrast] = ()
) -> Iterator[Finding]:
    """Yield what the rows and their split say against any number about them."""
    yield from _split(rows, folds, preset)
    yield from _near_duplicates(rows, folds)
    yield from _known_faults(rows)
    yield from _leaks(rows)
    yield from _few_rows(rows, folds)
    yield from _left_out(rows)
    for contrast in contrasts:
        yield from _contrast(contrast, rows)


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


def _near_duplicates(rows: LabelledRows, folds: Folds) -> Iterator[Finding]:
    """Tell of pictures that are nearly the same and stand on both sides of the split."""
    likeness = rows.likeness
    if likeness.unknown:
        yield Finding(NOTE, f"Whether pictures are nearly the same is not known: {likeness.unknown}.")
    if likeness.joined or not likeness.pairs:
        if likeness.pairs:
            yield Finding(
                NOTE, f"{len(likeness.pairs)} pairs of pictures are nearly the same; each counts as one image."
            )
        return
    folds_of_image: defaultdict[str, set[int]] = defaultdict(set)
    for image, fold in zip(rows.images, folds.fold.tolist(), strict=True):
        folds_of_image[image].add(fold)
    apart = [pair for pair in likeness.pairs if len(folds_of_image[pair[0]] | folds_of_image[pair[1]]) > 1]
    if apart:
        images = {image for pair in apart for image in pair}
        share = np.mean([image in images for image in rows.images])
        yield Finding(
            SERIOUS,
            f"{len(images)} images ({share:.0%} of the questions) are nearly the same picture as another one, in "
            "another encoding or size, on the other side of the split: what a probe remembers of a picture counts as "
            "success. Join them with `join_near_duplicates`.",
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


def _few_rows(rows: LabelledRows, folds: Folds) -> Iterator[Finding]:
    if reason := too_narrow(rows.take_tested(folds), folds.count):
        yield Finding(SERIOUS, f"{reason[0].upper()}{reason[1:]}.")
    for k in range(folds.count):
        counts = np.bincount(rows.y[folds.fold == k], minlength=2)
        if min(counts) < FEW_POSITIVES:
            name = "positives" if counts[1] <= counts[0] else "negatives"
            yield Finding(CAUTION, f"Only {min(counts)} {name} in fold {k}: its AUROC is uncertain.")


def _left_out(rows: LabelledRows) -> Iterator[Finding]:
    out, total = len(rows.left_out), len(rows.left_out) + len(rows.y)
    if out > MANY_UNKNOWN * total:
        yield Finding(
            CAUTION,
            f"{out} of {total} samples are left out (left_out.csv): the numbers are about the others, and those may be "
            "the easier ones.",
        )


def _contrast(contrast: Contrast, rows: LabelledRows) -> Iterator[Finding]:
    """Tell how the rows left out for one reason differ from those kept."""
    about = f"{contrast.count} samples left out ({contrast.reason}) are not like the {len(rows.y)} kept"
    if contrast.labels is not None:
        known, wrong = contrast.labelled, contrast.wrong
        kept, pooled = rows.y.mean(), (rows.y.sum() + wrong) / (len(rows.y) + known)
        yield Finding(
            SERIOUS if abs(pooled - kept) > MOVED * min(kept, 1 - kept) else CAUTION,
            f"{about}: {wrong} of the {known} with a label have label 1 ({wrong / known:.0%}), of those kept {kept:.0%}"
            f". With them it would be {pooled:.0%}: the numbers are about the others.",
        )
    differences = [
        f"{share.out:.0%} have `{share.column}` = `{share.value}`, of those kept {share.kept:.0%}"
        for share in contrast.shares
    ]
    if contrast.doubt is not None:
        more = contrast.doubt.value > 0.5
        differences.append(
            f"the model doubted their answers {'more' if more else 'less'} (first token entropy, AUROC of being left "
            f"out {with_interval(contrast.doubt)})"
        )
    if differences:
        many = contrast.count > MANY_UNKNOWN * (len(rows.y) + len(rows.left_out))
        yield Finding(CAUTION if many else NOTE, f"{about}: {'; '.join(differences)}.")
