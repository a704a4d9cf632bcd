"""`train_probes.py` and `halp-probe train-probes`: the flags, and one study from them."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from halp_probe.arguments import not_negative
from halp_probe.probes.errors import ProbeError

if TYPE_CHECKING:
    pass


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--shards", type=Path, required=True, help="shard file, or folder of shards (the --output-dir of extract.py)")
    add("--labels", type=Path, required=True, help="CSV with question_id and label: 1 hallucinated, 0 right, or blank")
    add("--output-dir", type=Path, required=True, help="for report.html, results.csv, oof.csv, probes/ and more")
    add(
        "--group-columns", nargs="+", default=[], metavar="NAME", help="columns such as source or category to look into"
    )
    add("--images-dir", type=Path, help="for the report's pictures (what the shards' run.json names)")
    add(
        "--probe",
        default="linear",
        choices=("linear", "ridge", "difference", "mlp"),
        help="kind of probe (%(default)s)",
    )
    add("--strengths", nargs="+", type=_strength, help="C of linear and ridge to choose among (1e-4 1e-3 0.01 0.1 1)")
    add("--representations", nargs="+", metavar="NAME", help="e.g. query_token_representation/layer_7 (all)")
    add("--folds", type=_at_least_two, default=5, help="test folds, split by image (%(default)s)")
    add("--bootstrap", type=_at_least_two, default=1000, help="draws for the intervals (%(default)s)")
    add("--calibration", default="platt", choices=("platt", "isotonic", "none"), help="score to risk (%(default)s)")
    add("--max-error", type=_share, help="save the threshold that keeps the error among answered questions below this")
    add("--preset", choices=("halp",), help="the published design, to compare with: MLP, one split by row, seed 42")
    add("--device", default="cpu", help="where probes are fitted: cpu or cuda (%(default)s)")
    add("--seed", type=not_negative, default=0, help="of folds, probes and bootstrap (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Train and judge; the exit status is 0. Raises InputError for shards or labels that cannot be used."""
    from halp_probe.labels.table import read_labels
    from halp_probe.probes import outputs
    from halp_probe.probes.estimators import STRENGTHS
    from halp_probe.probes.saving import save_probes
    from halp_probe.probes.study import Design, study
    from halp_probe.report.writing import write_report
    from halp_probe.shards.reader import open_shards

    began = time.monotonic()
    shards, labels = open_shards(args.shards), read_labels(args.labels)
    for note in shards.notes:
        print(f"note: {note}")
    folder = _writable(args.output_dir)
    design = Design(
        probe=args.probe,
        strengths=tuple(args.strengths or STRENGTHS),
        representations=tuple(args.representations) if args.representations else None,
        group_columns=tuple(args.group_columns),
        folds=args.folds,
        bootstrap=args.bootstrap,
        calibration=args.calibration,
        preset=args.preset,
        seed=args.seed,
        device=args.device,
    )
    found = study(shards, labels, design)
    for note in found.rows.notes:
        print(note)
    outputs.write_left_out(folder / "left_out.csv", found.rows)
    outputs.write_out_of_fold(folder / "oof.csv", found)
    outputs.write_results(folder / "results.csv", found.judgement)
    outputs.write_differences(folder / "differences.csv", found.judgement)
    save_probes(folder / "probes", found, shards.attributes, args.labels.name, args.max_error)
    write_report(
        folder, found, shards, labels=args.labels, images_dir=args.images_dir, seconds=time.monotonic() - began
    )
    print(f"\n{outputs.table(found.judgement, found.findings)}")
    print(f"\n{folder}: report.html, results.csv, oof.csv, … and probes/ (fitted on all {len(found.rows.y)} questions)")
    return 0


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "probes").mkdir(exist_ok=True)
    except OSError as error:
        raise ProbeError(f"--output-dir {folder} cannot be written: {error.strerror}") from error
    return folder


def _at_least_two(text: str) -> int:
    value = int(text)
    if value < 2:
        raise argparse.ArgumentTypeError(f"{value} is less than 2")
    return value


def _strength(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not between 0 and 1")
    return value
