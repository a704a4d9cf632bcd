"""How fast hidden states and answers come out of a Qwen2.5-VL: ours, plain batching and the original three passes.

    python benchmarks/extraction.py --preset small                  # on a CPU: minutes
    python benchmarks/extraction.py --preset qwen2.5-vl-7b          # on a GPU of 40 GB or more
    python benchmarks/extraction.py --preset tiny --check           # equality alone: seconds

All ways run in one process on the same prompts, which are made beforehand: the model's part is measured. Weights are
random, made from a config; nothing is downloaded. three_passes.py is the protocol, flops.py says what is counted.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from measuring import Measured, environment, matmul_rate, measured
from presets import PRESETS, build_model, make_prompts
from tables import Result, Setting, print_head, print_setting
from ways import OURS, THREE_PASSES, Way, differences, make_ways

from halp_probe.commands.arguments import positive
from halp_probe.json_files import write_json
from halp_probe.models.loading import LoadedModel

CHECK_TOLERANCE = 1e-5  # of a vector's largest value, in float32
_BATCH_TOKENS = {"cpu": 4096, "cuda": 16384}
_MATMUL_SIZE = {"cpu": 2048, "cuda": 8192}


def main(arguments: list[str] | None = None) -> int:
    """The exit status is 1 when `--check` finds ways that differ."""
    options = _options(arguments)
    loaded = build_model(options.preset, torch.device(options.device))
    if options.check:
        return check(loaded, options)
    if options.profile:
        profile(loaded, options)
        return 0
    report = _report(loaded, options)
    print_head(report)
    for setting in settings(loaded, options):
        print_setting(setting)
        report["settings"].append(setting.as_json())
        if options.json:  # after each: what is measured is kept
            write_json(options.json, report)
    return 0


def settings(loaded: LoadedModel, options: argparse.Namespace) -> Iterator[Setting]:
    """Every number of questions an image, with answers and then without."""
    for questions in options.questions_per_image:
        protocol: Result | None = None
        for new_tokens in (options.new_tokens, 0):
            ways = _ways(loaded, options, questions, new_tokens)
            warm, runs, bound = _interleaved(ways, loaded, options)
            results = {name: _result(name, way, runs[name]) for name, way in ways.items()}
            protocol = protocol or results[THREE_PASSES]
            yield Setting(
                questions_per_image=questions,
                rows=questions * options.images,
                new_tokens=new_tokens,
                results=results,
                protocol=protocol,
                matmul_flops=bound,
                differences=differences(ways, warm),
            )


def check(loaded: LoadedModel, options: argparse.Namespace) -> int:
    """Whether all ways give the same states and answers; nothing is timed."""
    wrong = 0
    for questions in options.questions_per_image:
        for new_tokens in (options.new_tokens, 0):
            ways = _ways(loaded, options, questions, new_tokens)
            gaps = differences(ways, {name: way.run() for name, way in ways.items()})
            for (left, right), gap in gaps.items():
                equal = gap.relative <= CHECK_TOLERANCE and gap.same_answers == gap.rows
                wrong += not equal
                print(
                    f"{'equal' if equal else 'DIFFERENT'}: {left} and {right}, {questions} questions an image, "
                    f"{new_tokens} tokens an answer: states to {gap.relative:.1e}, {gap.same_answers} of {gap.rows} "
                    "answers"
                )
    return 1 if wrong else 0


def profile(loaded: LoadedModel, options: argparse.Namespace) -> None:
    """The operations that take ours the longest, at the last number of questions an image, with answers."""
    way = _ways(loaded, options, options.questions_per_image[-1], options.new_tokens)[OURS]
    way.run()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if loaded.device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        way.run()
    by = f"self_{loaded.device.type}_time_total"
    print(profiler.key_averages().table(sort_by=by, row_limit=15, max_name_column_width=60))


def _ways(loaded: LoadedModel, options: argparse.Namespace, questions: int, new_tokens: int) -> dict[str, Way]:
    prompts = make_prompts(loaded, options.images, questions, (options.width, options.height))
    return make_ways(loaded, prompts, new_tokens, options.batch_tokens, options.reference_rows)


def _interleaved(
    ways: dict[str, Way], loaded: LoadedModel, options: argparse.Namespace
) -> tuple[dict[str, list[Any]], dict[str, list[Measured]], float]:
    """What each way gives (the untimed first run), its repeats, and the FLOP/s of a large product meanwhile.

    In turns a, b, c, product, a, b, c, product, …: what else the machine does hits all alike.
    """
    warm = {name: way.run() for name, way in ways.items()}
    runs: dict[str, list[Measured]] = {name: [] for name in ways}
    bound = 0.0
    for _ in range(options.repeats):
        for name, way in ways.items():
            runs[name].append(measured(way.run, loaded.device))
        bound = max(bound, matmul_rate(loaded.device, loaded.model.dtype, options.matmul_size, repeats=4))
    return warm, runs, bound


def _result(name: str, way: Way, runs: list[Measured]) -> Result:
    return Result(
        way=name,
        rows=len(way.rows),
        seconds=tuple(run.seconds for run in runs),
        flops_per_row=way.flops / len(way.rows),
        peak_bytes=max(run.peak_bytes for run in runs),
    )


def _report(loaded: LoadedModel, options: argparse.Namespace) -> dict[str, Any]:
    return {
        **environment(loaded.device, loaded.model.dtype),
        "preset": options.preset,
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "vision_attention": loaded.model.model.visual.config._attn_implementation,
        "images": options.images,
        "picture": (options.width, options.height),
        "batch_tokens": options.batch_tokens,
        "repeats": options.repeats,
        "matmul_size": options.matmul_size,
        "settings": [],
    }


def _options(arguments: list[str] | None) -> argparse.Namespace:
    summary = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(description=summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="small", help="the model's size")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--repeats", type=positive, default=3, help="timed runs of each way, of which the best counts")
    add("--questions-per-image", type=positive, nargs="+", default=[1, 2, 6], help="measured one after the other")
    add("--new-tokens", type=positive, default=8, help="exact length of every answer")
    add("--images", type=positive, help="pictures a table (None: the preset's)")
    add("--width", type=positive, help="of the pictures in pixels (None: the preset's)")
    add("--height", type=positive, help="of the pictures in pixels (None: the preset's)")
    add("--batch-tokens", type=positive, help="padded tokens a batch (None: cpu 4096, cuda 16384)")
    add("--reference-rows", type=positive, default=6, help="rows of the table that the three passes run over")
    add("--json", type=Path, help="write everything measured to this file as well")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--profile", action="store_true", help="profile ours once instead")
    what.add_argument("--check", action="store_true", help="compare states and answers instead; needs float32")
    options = parser.parse_args(arguments)
    preset = PRESETS[options.preset]
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.check and preset.dtype != "float32":
        parser.error(f"--check needs float32, the preset {options.preset} is {preset.dtype}")
    options.images = options.images or preset.images
    options.width, options.height = options.width or preset.picture[0], options.height or preset.picture[1]
    kind = torch.device(options.device).type
    options.batch_tokens = options.batch_tokens or _BATCH_TOKENS[kind]
    options.matmul_size = 256 if options.preset == "tiny" else _MATMUL_SIZE[kind]
    return options


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    raise SystemExit(main())
