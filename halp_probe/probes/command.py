"""`train_probes.py` and `halp-probe train-probes`: the flags, and one sweep from them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halp_probe import __version__
from halp_probe.probes.errors import ProbeError

if TYPE_CHECKING:
    from halp_probe.probes.features import LabelledRows, ShardSource
    from halp_probe.probes.results import Judgement, Result
    from halp_probe.probes.sweep import Sweep


@dataclass(frozen=True)
class TrainOptions:
    """The flags of one sweep; see `add_arguments` for what each means."""

    shards: Path
    labels: Path
    output_dir: Path
    probe: str
    seed: int
    folds: int
    bootstrap: int
    representations: list[str] | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--shards", type=Path, required=True, help="shard file, or folder of shards (the --output-dir of extract.py)")
    add("--labels", type=Path, required=True, help="CSV with question_id and label: 1 hallucinated, 0 right, or blank")
    add("--output-dir", type=Path, required=True, help="results.csv, oof.csv, left_out.csv, heatmap.png, probes/")
    add("--probe", default="linear", choices=("linear", "mlp"), help="logistic regression or HALP's MLP (%(default)s)")
    add("--folds", type=_at_least_two, default=5, help="test folds, split by image (%(default)s)")
    add("--bootstrap", type=_at_least_two, default=1000, help="draws for the intervals (%(default)s)")
    add("--representations", nargs="+", metavar="NAME", help="e.g. query_token_representation/layer_7 (all)")
    add("--seed", type=int, default=0, help="of folds, probes and bootstrap (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Train and judge; the exit status is 0. Raises InputError for shards or labels that cannot be used."""
    from halp_probe.labels.table import read_labels
    from halp_probe.shards.reader import open_shards

    options = TrainOptions(**{name: getattr(args, name) for name in TrainOptions.__dataclass_fields__})
    shards = open_shards(options.shards)
    for note in shards.notes:
        print(f"note: {note}")
    train(shards, read_labels(options.labels), options)
    return 0


def train(shards: ShardSource, labels: dict[str, int | None], options: TrainOptions) -> Judgement:
    """One sweep: its files into `options.output_dir`, its notes and its table to stdout."""
    from halp_probe.probes import outputs
    from halp_probe.probes.features import choose_representations, join
    from halp_probe.probes.results import judge_sweep
    from halp_probe.probes.splits import outer_folds
    from halp_probe.probes.sweep import sweep

    folder = _writable(options.output_dir)
    rows = join(shards, labels, choose_representations(shards.representations, options.representations))
    for note in rows.notes:
        print(note)
    folds = outer_folds(rows.y, rows.image_codes, options.folds, options.seed)
    judged = folds.count - len(folds.unjudged)
    if judged < 2:
        raise ProbeError(
            f"only {judged} of {folds.count} test folds hold both classes ({int(rows.y.sum())} of {len(rows.y)} labels "
            "are 1): too few to judge a probe; label more samples, or pass fewer --folds"
        )
    swept = sweep(shards, rows, folds, options.probe, options.seed)
    judgement = judge_sweep(swept, rows, folds, options.bootstrap, options.seed)
    outputs.write_left_out(folder / "left_out.csv", rows)
    outputs.write_out_of_fold(folder / "oof.csv", judgement, rows, folds, swept.control)
    outputs.write_results(folder / "results.csv", judgement)
    _write_heatmap(folder / "heatmap.png", judgement, shards, options)
    _write_probes(folder / "probes", judgement, swept, rows, shards, options)
    print(f"\n{outputs.table(judgement)}")
    print(
        f"\n{folder}: results.csv, oof.csv, left_out.csv, heatmap.png, probes/ (fitted on all {judgement.n} questions)"
    )
    return judgement


def _write_probes(
    folder: Path, judgement: Judgement, swept: Sweep, rows: LabelledRows, shards: ShardSource, options: TrainOptions
) -> None:
    """A pair of files for each representation; pairs that an earlier run left there go."""
    from halp_probe.probes.files import file_stem, remove_other_probes, save_probe

    for result in judgement.results:
        if result.name not in swept.fits:
            continue
        about = {
            "representation": result.name,
            "position": result.position,
            "layer": result.layer,
            **{name: shards.attributes.get(name) for name in ("model_name", "revision", "layers", "layer_meaning")},
            "training": _provenance(result, judgement, rows, options),
        }
        save_probe(folder / file_stem(result.name), swept.fits[result.name].final, about)
    remove_other_probes(folder, [file_stem(name) for name in swept.fits])


def _provenance(result: Result, judgement: Judgement, rows: LabelledRows, options: TrainOptions) -> dict[str, Any]:
    return {
        "rows": judgement.n,
        "positives": judgement.n_positive,
        "images": judgement.n_images,
        "left_out": len(rows.left_out),
        "labels_file": options.labels.name,
        "seed": options.seed,
        "folds": options.folds,
        "halp_probe_version": __version__,
        "auroc": result.auroc.value,  # of the out-of-fold scores, not of this refitted probe
        "auroc_low": result.auroc.low,
        "auroc_high": result.auroc.high,
    }


def _write_heatmap(path: Path, judgement: Judgement, shards: ShardSource, options: TrainOptions) -> None:
    from halp_probe.files import write_bytes
    from halp_probe.probes.results import BASELINE
    from halp_probe.report.heatmap import Cell, heatmap_png

    def cell(result: Result) -> Cell:
        return Cell(result.position, result.layer, result.auroc.value, result.auroc.low, result.auroc.high)

    cells = [cell(result) for result in judgement.results if result.position != BASELINE]
    title = str(shards.attributes.get("model_name", "unnamed model"))
    subtitle = f"{options.probe} probe, {judgement.n} questions on {judgement.n_images} images"
    best = None
    if judgement.best:
        best, subtitle = cell(judgement.best), f"{subtitle}; framed: the best, picked on the folds that judge it"
    write_bytes(path, heatmap_png(cells, title, subtitle, best))


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
