"""`halp-probe ablate`: take a probe's direction out of the model at its layer, and report which answers change."""

from __future__ import annotations

import argparse
from pathlib import Path

from halp_probe.commands.arguments import not_negative
from halp_probe.commands.image_flags import add_link_argument, image_folder
from halp_probe.commands.model_flags import add_model_arguments
from halp_probe.commands.score import add_run_arguments, run_options
from halp_probe.commands.stopping import StopSignals
from halp_probe.commands.table_flags import add_table_arguments, table_options
from halp_probe.commands.terminal import progress_on_terminal
from halp_probe.labels.rules import RULES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `ablate`."""
    add = parser.add_argument
    add_table_arguments(parser, "question_id, image_id, question, and answer, to judge by", required=True)
    add_link_argument(parser)
    add("--probe", type=Path, required=True, help="a linear, ridge or difference probe that train_probes.py saved")
    add("--output-dir", type=Path, required=True, help="ablation.csv, ablation.json; plain, ablated and control runs")
    add_model_arguments(parser, default=None, otherwise="that of the probe's card, with the adapters named there")
    add(
        "--to",
        default="zero",
        choices=("zero", "mean"),
        help="component that is left along the direction: none, or that of the mean of the probe's training states "
        "(%(default)s)",
    )
    add(
        "--control",
        default="removed",
        choices=("removed", "moved"),
        help="take out a random direction; or move every state along it as far as taking out the probe's direction "
        "moves it (%(default)s)",
    )
    add("--rule", default="auto", choices=RULES, help="how answers are judged, as in `label` (%(default)s)")
    add("--seed", type=not_negative, default=0, help="seed of the random direction and the bootstrap (%(default)s)")
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Ablate, and return the exit status of the extraction. Raises InputError for input that cannot be used."""
    from halp_probe.commands.extract import report
    from halp_probe.interventions.ablation import AblationDesign, ablate
    from halp_probe.interventions.outputs import CSV_FILE, summary
    from halp_probe.probes.files import load_probe
    from halp_probe.task_files.table import read_vqa

    probe = load_probe(args.probe)
    options = run_options(args, probe)
    task_input = read_vqa(args.vqa_dataset, image_folder(args.images_dir, args), table_options(args), answers=False)
    design = AblationDesign(to=args.to, control=args.control, rule=args.rule, seed=args.seed)
    stop = StopSignals()
    with progress_on_terminal() as progress:
        found = ablate(
            options,
            task_input,
            probe,
            design,
            probe_name=str(args.probe),
            allow_other_model=args.allow_other_model,
            progress=progress,
            stopping=lambda: stop,
        )
    statuses = [report(extraction, stop) for extraction in found.extractions.values()]
    if found.runs is None or found.moved is None:
        return statuses[-1]
    print(summary(found.runs, found.effects, found.moved, args.control))
    print(f"{args.output_dir / CSV_FILE}: {len(found.runs.question_ids)} questions, answered three times")
    return 0
