"""`halp-probe set-threshold`: choose the risk above which a saved probe abstains, on rows that it was not fitted on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from halp_probe.commands.arguments import share
from halp_probe.errors import InputError

if TYPE_CHECKING:
    from halp_probe.probes.files import SavedProbe
    from halp_probe.probes.judging.thresholds import Threshold


PER = ("image", "question")
_DRAWS = 1000  # of images, for the bound of an error rate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `set-threshold`."""
    add = parser.add_argument
    add("--probe", type=Path, required=True, help="a saved probe; its card gets the threshold")
    add("--shards", type=Path, required=True, help="shards of images that the probe was NOT trained on")
    add("--labels", type=Path, required=True, help="CSV with question_id and label: 1 hallucinated, 0 right, or blank")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--max-error", type=share, help="error rate among the answered questions, such as 0.05")
    what.add_argument("--min-coverage", type=share, help="share of questions to answer, such as 0.8; no guarantee")
    add(
        "--confidence",
        type=share,
        help="that --max-error holds, such as 0.9: see --per (per image it needs the extra abstention)",
    )
    add(
        "--per",
        choices=PER,
        default="image",
        help="what --confidence holds for: one question drawn from each new image, or every new question alike; the "
        "second also where images with more questions are harder, for which it takes more images (%(default)s)",
    )
    add("--seed", type=int, default=0, help="of the draws behind --max-error and --confidence (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Write the threshold into the probe's card; the exit status is 0. Raises InputError when none can be found."""
    from halp_probe.bootstrap import Draws
    from halp_probe.labels.table import read_labels
    from halp_probe.probes.card import check_same_states
    from halp_probe.probes.features import join
    from halp_probe.probes.files import load_probe, set_threshold
    from halp_probe.probes.fusion.names import NUMBERS
    from halp_probe.probes.judging.thresholds import threshold_for, threshold_for_coverage
    from halp_probe.scoring.abstention import controlled_threshold
    from halp_probe.scoring.question_bound import threshold_per_question
    from halp_probe.shards.reader import open_shards

    if args.confidence is not None and args.max_error is None:
        raise InputError("--confidence goes with --max-error")
    probe, shards = load_probe(args.probe), open_shards(args.shards)
    check_same_states(probe.metadata, shards.attributes)
    rows = join(shards, read_labels(args.labels), [name for name in probe.inputs if name not in NUMBERS])
    trained_on = _check_held_out(probe, rows.images, args.confidence)
    risk = probe.risk_of(shards)[rows.index]  # [N]
    if args.min_coverage is not None:
        threshold = threshold_for_coverage(risk, rows.y, args.min_coverage)
    elif args.confidence is None:
        draws = Draws(count=_DRAWS, seed=args.seed)
        threshold = threshold_for(risk, rows.y, rows.image_codes, args.max_error, draws)
    else:
        promised = threshold_per_question if args.per == "question" else controlled_threshold
        threshold = promised(
            risk, rows.y, rows.image_codes, max_error=args.max_error, confidence=args.confidence, seed=args.seed
        )
    if not threshold.found:
        raise InputError(threshold.words)
    set_threshold(args.probe, threshold)
    print(f"{threshold.words}{_promise(threshold)}")
    if trained_on:
        print(f"note: the probe was trained on {trained_on} of these images, so its error here is too low")
    return 0


def _promise(threshold: Threshold) -> str:
    """Say what holds on other images, and of what."""
    if threshold.confidence is None:
        return "" if threshold.max_error is not None else " (no guarantee for other images)"
    holds = f"at most {threshold.max_error:g} wrong with confidence {threshold.confidence:g}"
    if threshold.per == "question":
        return f" (of all questions on new images {holds}, if none has more questions than the fullest here)"
    return (
        f" (of one question drawn from each new image {holds}; of all questions more may be wrong where images with "
        "more questions are harder: --per question bounds that)"
    )


def _check_held_out(probe: SavedProbe, images: Sequence[str], confidence: float | None) -> int:
    """Return how many of the rows' images the probe was trained on.

    Raises InputError when there are any and a guarantee is asked for, which they would break.
    """
    import numpy as np

    from halp_probe.probes.files import image_keys

    keys = image_keys(images)
    trained_on = int(np.isin(keys, probe.training_images).sum())
    if trained_on and confidence is not None:
        raise InputError(
            f"the probe was trained on {trained_on} of these {len(keys)} images: --confidence needs images that it was "
            "not trained on; pass shards of such images"
        )
    return trained_on
