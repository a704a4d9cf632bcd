"""`halp-probe train-vlm`: train a fused VLM in two stages, resumable at any moment, and evaluate what was saved."""

from __future__ import annotations

import argparse
import os

from halp_probe.commands.train_vlm_flags import add_arguments as add_arguments
from halp_probe.commands.train_vlm_flags import train_options
from halp_probe.errors import InputError
from halp_probe.models.options import quiet_libraries


def run(args: argparse.Namespace) -> int:
    """Train; the exit status is 0, or 130 or 143 when stopped by a signal.

    Raises InputError for input that cannot be used.
    """
    options = train_options(args)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("train-vlm runs in one process on one device; start it without torchrun")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive the forking of workers
    quiet_libraries()  # importing the trainer prints warnings
    import transformers

    from halp_probe.commands.stopping import StopSignals
    from halp_probe.commands.terminal import progress_on_terminal
    from halp_probe.finetuning.run import train
    from halp_probe.locking import lock_folder

    transformers.utils.logging.set_verbosity_error()  # the trainer reports choices of its own, none of them ours
    with lock_folder(options.output_dir), progress_on_terminal() as progress, StopSignals() as stop:
        trained = train(options, stop, progress)
    for line in trained.lines:
        print(line)
    return 0 if trained.finished else stop.exit_status
