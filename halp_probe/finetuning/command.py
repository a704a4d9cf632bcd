"""`halp-probe train-vlm`: train a fused VLM in two stages, resumable at any moment, and evaluate what was saved."""

from __future__ import annotations

import argparse

from halp_probe.finetuning.options import TrainOptions
from halp_probe.finetuning.options import add_arguments as add_arguments


def run(args: argparse.Namespace) -> int:
    """Train; exit status 0, 130 or 143 when stopped by a signal. Raises InputError for input that cannot be used."""
    from halp_probe.extraction.stopping import StopSignals
    from halp_probe.finetuning.run import train
    from halp_probe.locking import locked

    options = TrainOptions.of(args)
    with locked(options.output_dir), StopSignals() as stop:
        finished = train(options, stop)
        return 0 if finished else stop.exit_status
