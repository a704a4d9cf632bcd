"""Cost of sampled answers: extraction with N of them against greedy answers alone, in one process.

    python benchmarks/sampled.py --preset small                  # on a CPU: minutes
    python benchmarks/sampled.py --preset qwen2.5-vl-7b          # on a GPU of 40 GB or more

The weights are random, so that nearly all samples differ: this is the worst case, and no answer ends before its full
length. A second line has all samples equal, at a temperature near 0, which is the best.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from statistics import median

import torch
from presets import PRESETS, build_model, make_prompts

from halp_probe.commands.arguments import positive
from halp_probe.engine.batching import CACHED, batches
from halp_probe.engine.engine import Engine
from halp_probe.engine.positions import probed_layers
from halp_probe.engine.prompting import Prompt
from halp_probe.engine.sampling import Sampling
from halp_probe.models.loading import LoadedModel
from halp_probe.records import CaptureSpec

_BATCH_TOKENS = {"cpu": 4096, "cuda": 16384}


def main(arguments: list[str] | None = None) -> int:
    """Print the ratios; the exit status is 0."""
    options = _options(arguments)
    loaded = build_model(options.preset, torch.device(options.device))
    preset = PRESETS[options.preset]
    prompts = make_prompts(loaded, options.images or preset.images, options.questions, preset.picture)
    parts = list(batches(prompts, lambda: _BATCH_TOKENS[loaded.device.type], share_prefix=True))
    ways = {
        "greedy": None,
        "samples that differ": Sampling(count=options.samples, temperature=1.0),
        "samples that agree": Sampling(count=options.samples, temperature=1e-5),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(options.runs + 1):  # the first warms up
        for name, sampling in ways.items():
            took = _seconds(loaded, parts, sampling, options.new_tokens)
            if run:
                seconds[name].append(took)
    greedy = median(seconds["greedy"])
    print(
        f"{len(prompts)} rows, {options.questions} an image, {options.samples} samples of {options.new_tokens} tokens"
    )
    for name, times in seconds.items():
        print(f"{name:>20}: {median(times):.2f} s, {median(times) / greedy:.2f} x greedy")
    return 0


def _seconds(
    loaded: LoadedModel, parts: Sequence[Sequence[Prompt]], sampling: Sampling | None, new_tokens: int
) -> float:
    engine = Engine(
        loaded,
        CaptureSpec(probed_layers(loaded.num_layers), new_tokens),
        share_prefix=True,
        sampling=sampling,
        sampled_tokens=CACHED * _BATCH_TOKENS[loaded.device.type],
    )
    begin = time.perf_counter()
    for part in parts:
        engine.compute(part)
    return time.perf_counter() - begin


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--preset", default="small", choices=PRESETS, help="the model (%(default)s)")
    add("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    add("--images", type=positive, help="pictures (the preset's)")
    add("--questions", type=positive, default=6, help="on each picture (%(default)s)")
    add("--samples", type=positive, default=10, help="of each question (%(default)s)")
    add("--new-tokens", type=positive, default=8, help="of every answer (%(default)s)")
    add("--runs", type=positive, default=3, help="of which the median counts (%(default)s)")
    options = parser.parse_args(arguments)
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    return options


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    raise SystemExit(main())
