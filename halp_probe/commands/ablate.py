"""`halp-probe ablate`: answer a table with a probe's direction taken out at its layer, and tell what that changed.

Three extractions of one layer, each batched and resumable: as the model is, without the probe's direction, and, as a
control, the same with a random direction.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halp_probe.commands.arguments import not_negative
from halp_probe.commands.model_flags import add_model_arguments
from halp_probe.commands.score import add_run_arguments
from halp_probe.labels.rules import RULES

if TYPE_CHECKING:
    import numpy as np

    from halp_probe.models.loading import LoadedModel
    from halp_probe.probes.files import SavedProbe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--vqa-dataset", type=Path, required=True, help="CSV with question_id, image_id, question; answer, to judge by")
    add("--images-dir", type=Path, required=True, help="folder of the images: {images_dir}/{image_id}")
    add("--probe", type=Path, required=True, help="a linear, ridge or difference probe that train_probes.py saved")
    add("--output-dir", type=Path, required=True, help="ablation.csv, ablation.json; plain, ablated and control runs")
    add_model_arguments(parser, default=None, otherwise="that of the probe's card, with the adapters named there")
    add(
        "--to",
        default="zero",
        choices=("zero", "mean"),
        help="component along the direction that is left: none, or that of the mean of the probe's training states "
        "(%(default)s)",
    )
    add(
        "--control",
        default="removed",
        choices=("removed", "moved"),
        help="a random direction is taken out; or every state is moved along it as far as taking out the probe's "
        "moves it (%(default)s)",
    )
    add("--rule", default="auto", choices=RULES, help="how answers are judged, as in `label` (%(default)s)")
    add("--seed", type=not_negative, default=0, help="of the random direction and of the bootstrap (%(default)s)")
    add_run_arguments(parser)
    parser.set_defaults(no_answers=False)


def run(args: argparse.Namespace) -> int:
    """Ablate; the exit status is that of an extraction. Raises InputError for input that cannot be used."""
    from halp_probe.commands import extract as extraction
    from halp_probe.commands.score import extract_options
    from halp_probe.interventions.directions import layer_read
    from halp_probe.locking import locked
    from halp_probe.probes.files import load_probe
    from halp_probe.scoring.compatibility import check_fits
    from halp_probe.task_files.table import read_vqa

    probe = load_probe(args.probe)
    layer, planned = layer_read(probe), _planned(args, probe)
    options = extract_options(args, probe.metadata)
    given = read_vqa(args.vqa_dataset, args.images_dir, answers=False)
    with locked(args.output_dir):
        loaded, prompter = extraction.load(options)
        check_fits(probe, loaded, allow_other_model=args.allow_other_model)
        for each in planned:
            own = replace(options, output_dir=args.output_dir / each.name)
            with locked(own.output_dir), _intervention(loaded, layer, each):
                status = extraction.extract(own, given, loaded, prompter, gate_settings=each.settings)
            if status:
                return status
        _report(args, probe, planned)
    return 0


@dataclass(frozen=True)
class _Planned:
    """One of the three runs."""

    name: str
    direction: np.ndarray | None  # [D] of unit length, to take out; None: nothing
    along: np.ndarray | None  # [D] of unit length, in which states are moved by as much instead
    left: float  # the component that states have along `direction` afterwards, in the units of the residual stream
    settings: dict[str, Any]  # for the folder's record, which refuses others


def _planned(args: argparse.Namespace, probe: SavedProbe) -> list[_Planned]:
    """The three runs. A shard of the last two tells by its attributes that its states are no plain ones."""
    from halp_probe.interventions.directions import control_direction, direction_of
    from halp_probe.interventions.effects import ABLATED, CONTROL, PLAIN

    def left(direction: np.ndarray) -> float:
        return float(probe.estimator.mean_ @ direction) if args.to == "mean" else 0.0

    own, random = direction_of(probe), control_direction(probe, args.seed)
    told = {"intervention_probe_sha256": probe.metadata["tensors_sha256"], "intervention_to": args.to}
    control = {"intervention": f"a random direction: {args.control}", **told, "intervention_seed": args.seed}
    return [
        _Planned(PLAIN, None, None, 0.0, {}),
        _Planned(ABLATED, own, None, left(own), {"intervention": "the probe's direction: removed", **told}),
        _Planned(CONTROL, random, None, left(random), control)
        if args.control == "removed"
        else _Planned(CONTROL, own, random, left(own), control),
    ]


def _intervention(loaded: LoadedModel, layer: int, planned: _Planned) -> AbstractContextManager[None]:
    from halp_probe.interventions.steering import ablate_direction

    if planned.direction is None:
        return nullcontext()
    return ablate_direction(loaded, layer, planned.direction, to=planned.left, along=planned.along)


def _report(args: argparse.Namespace, probe: SavedProbe, planned: Sequence[_Planned]) -> None:
    """ablation.csv, ablation.json and the summary, from the shards of the three runs."""
    from halp_probe.interventions import outputs
    from halp_probe.interventions.effects import PLAIN, effects, read_runs
    from halp_probe.shards.reader import open_shards

    shards = {each.name: open_shards(args.output_dir / each.name) for each in planned}
    runs = read_runs(shards, probe, args.rule)
    found = effects(runs, args.seed)
    moved = {each.name: outputs.moved_by(runs, each.name) for each in planned}
    about = {
        "probe": str(args.probe),
        "probe_sha256": probe.metadata["tensors_sha256"],
        **{name: probe.metadata[name] for name in ("kind", "representation", "layer")},
        **{name: shards[PLAIN].attributes.get(name) for name in ("model_name", "revision", "dtype")},
        **{name: getattr(args, name) for name in ("to", "control", "rule", "seed")},
        "left": {each.name: each.left for each in planned if each.direction is not None},
        "moved": moved,
    }
    outputs.write_csv(args.output_dir / outputs.CSV_FILE, runs)
    outputs.write_json(args.output_dir / outputs.JSON_FILE, about, runs, found)
    print(outputs.summary(runs, found, moved, args.control))
    print(f"{args.output_dir / outputs.CSV_FILE}: {len(runs.question_ids)} questions, answered three times")
