"""`halp-probe score`: compute the risk of every row of a table before its first token, and answer where it is low."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from halp_probe.commands.arguments import not_negative, positive
from halp_probe.commands.image_flags import add_link_argument, image_folder
from halp_probe.commands.model_flags import add_model_arguments, model_options
from halp_probe.commands.stopping import StopSignals
from halp_probe.commands.table_flags import add_table_arguments, table_options, table_source
from halp_probe.commands.terminal import progress_on_terminal

if TYPE_CHECKING:
    from halp_probe.extraction.options import ExtractOptions
    from halp_probe.probes.files import SavedProbe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `score`."""
    add = parser.add_argument
    add_table_arguments(parser, "question_id, image_id, question", required=True)
    add_link_argument(parser)
    add("--probe", type=Path, required=True, help="a probe that train_probes.py saved")
    add("--output-dir", type=Path, required=True, help="risks.csv, failures.csv, shards with the states that were read")
    add_model_arguments(parser, default=None, otherwise="that of the probe's card, with the adapters named there")
    add("--abstain-above", help="no answer above this risk; 'threshold': the one in the probe's card (always answer)")
    add("--no-answers", action="store_true", help="risks only")
    add_run_arguments(parser)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of every command that runs a probe's model over a table; see `run_options`."""
    add = parser.add_argument
    add("--max-new-tokens", type=positive, default=64, help="longest answer in tokens (%(default)s)")
    add("--batch-tokens", type=positive, help="padded tokens a batch (cpu 4096, cuda 16384)")
    add("--workers", type=not_negative, help="processes that prepare images ahead (cuda up to 8, cpu 0)")
    add("--allow-other-model", action="store_true", help="accept a probe of another model, revision or template")


def run_options(args: argparse.Namespace, probe: SavedProbe, *, answers: bool = True) -> ExtractOptions:
    """Return the options of an extraction that reads the probe's states, from parsed flags."""
    from halp_probe.scoring.scoring import probe_options

    return probe_options(
        probe,
        model_options(args),
        args.output_dir,
        source=table_source(args),
        max_new_tokens=args.max_new_tokens if answers else 0,
        batch_tokens=args.batch_tokens,
        workers=args.workers,
    )


def run(args: argparse.Namespace) -> int:
    """Score, and return the exit status of the extraction. Raises InputError for input that cannot be used."""
    from halp_probe.commands.extract import report
    from halp_probe.probes.files import load_probe
    from halp_probe.scoring.scorer import abstention_level
    from halp_probe.scoring.scoring import RISKS_FILE, score
    from halp_probe.task_files.table import read_vqa

    probe = load_probe(args.probe)
    highest = abstention_level(probe, args.abstain_above)
    options = run_options(args, probe, answers=not args.no_answers)
    task_input = read_vqa(args.vqa_dataset, image_folder(args.images_dir, args), table_options(args), answers=False)
    stop = StopSignals()
    with progress_on_terminal() as progress:
        scored = score(
            options,
            task_input,
            probe,
            abstain_above=highest,
            allow_other_model=args.allow_other_model,
            progress=progress,
            stopping=stop,
        )
    status = report(scored.extraction, stop)
    if risks := scored.risks:
        print(
            f"{args.output_dir / RISKS_FILE}: {len(risks.risk)} risks, mean {risks.risk.mean():.3f}; "
            f"{risks.abstained.sum()} questions abstained from"
        )
    return status
