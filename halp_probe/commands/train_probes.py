"""`train_probes.py` and `halp-probe train-probes`: the flags, and one study from them."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from halp_probe.commands.arguments import at_least_two, not_negative, positive_number, share
from halp_probe.commands.image_flags import add_link_argument
from halp_probe.commands.terminal import progress_on_terminal
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.names import BALANCED, FUSIONS, KINDS, LINEAR, PLATT, RISKS, WITH_STRENGTHS

if TYPE_CHECKING:
    from halp_probe.labels.table import Labels
    from halp_probe.probes.design import Design
    from halp_probe.probes.label_noise import LabelErrors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `train-probes`."""
    add = parser.add_argument
    add("--shards", type=Path, required=True, metavar="DIR", help="the --output-dir of extract.py, or one shard file")
    add(
        "--labels",
        type=Path,
        required=True,
        metavar="CSV",
        help="question_id, label: 1 hallucinated, 0 right, or blank",
    )
    add(
        "--output-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="for report.html, results.csv, oof.csv, probes/, …",
    )
    add("--label-check", type=Path, metavar="CSV", help="labels.check.csv, filled in: AUROC without wrong labels")
    add("--baselines", type=Path, metavar="CSV", help="question_id and numbers that the probe must beat")
    add("--images-dir", type=Path, metavar="DIR", help="for the report's pictures (where extract.py found them)")
    add_link_argument(parser)
    add_design_arguments(parser)
    add("--device", type=_device, default="cpu", help="device to fit probes on: cpu or cuda (%(default)s)")
    add("--seed", type=not_negative, default=0, metavar="N", help="of folds, probes and bootstrap (%(default)s)")


def add_design_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how probes are trained and judged."""
    add = parser.add_argument
    add("--group-columns", nargs="+", default=[], metavar="NAME", help="columns to look into: source, category, …")
    add("--probe", choices=KINDS, metavar="KIND", help=f"{', '.join(KINDS)} (linear)")
    add("--strengths", nargs="+", type=positive_number, metavar="C", help="of linear and ridge (1e-4 1e-3 0.01 0.1 1)")
    add("--balanced", action="store_const", const=BALANCED, dest="class_weight", help="labels weigh alike (linear)")
    add("--representations", nargs="+", metavar="NAME", help="e.g. query_token_representation/layer_7 (all)")
    add("--group-by", metavar="COLUMN", help="keep rows with one value on one side of the split: a template, a video")
    add("--join-near-duplicates", action="store_true", help="count a picture in two encodings or sizes as one image")
    add("--stability", action="store_true", help="learning curve, other folds, each group left out: twice the time")
    ways = ", ".join(FUSIONS)
    add("--fusion", nargs="*", choices=FUSIONS, metavar="WAY", help=f"probes of all layers as one: {ways} (all)")
    add("--folds", type=_folds, metavar="K", help="test folds, split by image (5), or of a column: column:fold")
    add("--bootstrap", type=at_least_two, default=1000, metavar="B", help="draws for the intervals (%(default)s)")
    add("--calibration", default=PLATT, choices=RISKS, metavar="KIND", help="platt, isotonic, none (%(default)s)")
    add("--max-error", type=share, metavar="SHARE", help="save the threshold that keeps so few of the answers wrong")
    add("--preset", choices=("halp",), help="the published design, to compare: MLP, one split by row, seed 42")


def run(args: argparse.Namespace) -> int:
    """Train and judge; the exit status is 0. Raises InputError for shards or labels that cannot be used."""
    from halp_probe.labels.table import read_labels
    from halp_probe.probes import outputs
    from halp_probe.probes.files import file_stem, load_probe
    from halp_probe.probes.study import study
    from halp_probe.report.writing import PROBES_FOLDER, writable_folder, write_report
    from halp_probe.shards.reader import open_shards

    _check(args)
    shards, labels = open_shards(args.shards), read_labels(args.labels)
    for note in shards.notes:
        print(f"note: {note}")
    folder = writable_folder(args.output_dir)
    with progress_on_terminal() as progress:
        errors = None if args.label_check is None else _label_errors(labels, args.label_check)
        found = study(shards, labels, _design(args), baselines=args.baselines, label_errors=errors, progress=progress)
    for note in found.rows.notes:
        print(note)
    write_report(
        found,
        folder,
        labels=args.labels,
        images_dir=args.images_dir,
        allow_links=args.allow_links,
        max_error=args.max_error,
    )
    print(f"\n{outputs.table(found.judgement, found.findings)}")
    name = found.judgement.headline.name
    if threshold := load_probe(folder / PROBES_FOLDER / file_stem(name)).threshold:
        print(f"\n{name}: {threshold.words}; by out-of-fold risks, of probes like the saved one")
    print(f"\n{folder}: report.html, results.csv, oof.csv, … and probes/ (fitted on all {len(found.rows.y)} questions)")
    return 0


def _label_errors(labels: Labels, sheet: Path) -> LabelErrors:
    from halp_probe.labels.checking import error_rates
    from halp_probe.probes.label_noise import LabelErrors

    rates = error_rates(labels.rows, sheet)
    return LabelErrors(right_of_wrong=rates.right_of_wrong, wrong_of_right=rates.wrong_of_right, checked=rates.checked)


def _check(args: argparse.Namespace) -> None:
    """Raise ProbeError for flags that contradict each other, and for folders or GPUs that are missing."""
    fixed = {"probe": "probe", "strengths": "strengths", "folds": "folds", "class_weight": "balanced"}
    for name, flag in fixed.items():
        if args.preset is not None and getattr(args, name) is not None:
            raise ProbeError(f"--{flag} does not go with --preset {args.preset}, which fixes it; leave one of them out")
    if args.strengths is not None and args.probe in set(KINDS) - set(WITH_STRENGTHS):
        raise ProbeError(f"--strengths does not go with --probe {args.probe}, which has none to choose among")
    if args.images_dir is not None and not args.images_dir.is_dir():
        raise ProbeError(f"--images-dir {args.images_dir} is not a folder")
    if args.device != "cpu":
        import torch

        if not torch.cuda.is_available():
            raise ProbeError(f"--device {args.device}: torch finds no GPU here; leave the flag out")


def _design(args: argparse.Namespace) -> Design:
    from halp_probe.probes.design import Design
    from halp_probe.probes.fitting.estimators import STRENGTHS

    return Design(
        probe=args.probe or LINEAR,
        strengths=tuple(args.strengths or STRENGTHS),
        representations=tuple(args.representations) if args.representations else None,
        group_columns=tuple(args.group_columns),
        folds=args.folds if isinstance(args.folds, int) else 5,
        fold_column=args.folds if isinstance(args.folds, str) else None,
        group_by=args.group_by,
        join_near_duplicates=args.join_near_duplicates,
        stability=args.stability,
        fusion=FUSIONS if args.fusion is None else tuple(args.fusion),
        bootstrap=args.bootstrap,
        calibration=args.calibration,
        preset=args.preset,
        class_weight=args.class_weight,
        seed=args.seed,
        device=args.device,
    )


def _folds(text: str) -> int | str:
    """Parse a number of folds, or the name of the column that has them after `column:`."""
    start, colon, name = text.partition(":")
    return name if start == "column" and colon and name else at_least_two(text)


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text} is neither cpu nor cuda nor cuda:N")
    return text
