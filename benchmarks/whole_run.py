"""python benchmarks/whole_run.py

What a whole run adds to the time inside the model, on real JPEGs; and whether memory grows with the number of rows.

Overlap: an extraction of pictures on disk into shards, answers included, with a model of random weights (`--preset`,
see presets.py). Compared are the run's wall time (from the first image header to the last shard, workers' start
included; imports and the model's making are not) and the time that the same run spends inside the model.
Memory: `extract.py` with the bundled model, peak of the resident set of its largest process, as the system counts it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import add_json, write_figures
from measuring import environment
from PIL import Image
from presets import PRESETS, QUESTION_TOKENS, build_model, question

from halp_probe.engine.batched import BatchRunner, samples_by_image
from halp_probe.engine.engine import ComputedBatch, Engine
from halp_probe.engine.positions import probed_layers
from halp_probe.engine.preparing import Preparer, default_workers
from halp_probe.engine.prompting import Prompt, Prompter
from halp_probe.extraction.run import run
from halp_probe.models.loading import LoadedModel
from halp_probe.records import CaptureSpec, Sample
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.run_folder import RunFolder

EXTRACT = Path(__file__).parents[1] / "extract.py"
BUDGET = {"cpu": 4096, "cuda": 16384}  # tokens a batch, as extract.py has it


class TimedEngine(Engine):
    """Adds up the time inside the model."""

    seconds = 0.0

    def compute(self, prompts: Sequence[Prompt]) -> ComputedBatch:
        start = time.perf_counter()
        computed = super().compute(prompts)  # ends with the copy to the host, so the device is done
        self.seconds += time.perf_counter() - start
        return computed


@dataclass(frozen=True)
class Run:
    """Seconds of one extraction, and of it inside the model."""

    wall: float
    model: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="small")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, default=48, help="JPEGs of 640 × 480 (%(default)s)")
    parser.add_argument("--questions", type=int, default=6, help="on each (%(default)s)")
    parser.add_argument("--new-tokens", type=int, default=8, help="longest answer (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="the best counts (%(default)s)")
    parser.add_argument("--rows", type=int, nargs="*", default=[1000, 10000], help="for the memory (%(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", help="that prepare images (0 and what extract.py would take)")
    add_json(parser)
    args = parser.parse_args()
    loaded = build_model(args.preset, torch.device(args.device))
    figures = {**environment(loaded.device, loaded.model.dtype), "preset": args.preset}
    with tempfile.TemporaryDirectory() as folder:
        figures["overlap"] = measure_overlap(args, loaded, Path(folder))
    write_figures(args.json, figures)
    if args.rows:
        figures["peak_bytes_by_rows"] = measure_memory(args.rows)
        write_figures(args.json, figures)


def measure_overlap(args: argparse.Namespace, loaded: LoadedModel, folder: Path) -> dict[str, Any]:
    """The figures; they are printed as well."""
    about = environment(loaded.device, loaded.model.dtype)
    print(f"{about['date']}  {about['machine']}, {about['device']}, {about['threads']} threads, {about['dtype']}")
    print(f"torch {about['torch']}, transformers {about['transformers']}; model {args.preset}, random weights")
    samples = write_pictures(folder, loaded, args.images, args.questions)
    counts = args.workers or sorted({0, default_workers(loaded.device.type == "cuda")})
    extract(loaded, folder, samples, args.new_tokens, 0)  # warms up
    runs: dict[int, list[Run]] = {workers: [] for workers in counts}
    for _ in range(args.repeats):
        for workers in counts:
            runs[workers].append(extract(loaded, folder, samples, args.new_tokens, workers))
    print(f"{len(samples)} questions on {args.images} JPEGs of 640 × 480, answers of {args.new_tokens} tokens")
    print(f"{'workers':>8}{'wall s':>9}{'model s':>9}{'ratio':>8}{'rows/s':>9}")
    for workers, repeats in runs.items():
        best = min(repeats, key=lambda run: run.wall)
        rate = len(samples) / best.wall
        print(f"{workers:>8}{best.wall:>9.2f}{best.model:>9.2f}{best.wall / best.model:>8.3f}{rate:>9.2f}")
    return {
        "questions": len(samples),
        "images": args.images,
        "new_tokens": args.new_tokens,
        "seconds_by_workers": {count: [asdict(run) for run in repeats] for count, repeats in runs.items()},
    }


def write_pictures(
    folder: Path, loaded: LoadedModel, images: int, questions: int, tokens: int = QUESTION_TOKENS
) -> list[Sample]:
    """JPEGs that compress about as photographs do, and questions on them of about so many tokens."""
    rng = np.random.default_rng(5)
    samples = []
    for image in range(images):
        coarse = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
        noisy = np.asarray(smooth, dtype=np.int16) + rng.integers(-12, 13, (480, 640, 1), dtype=np.int16)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{image}.jpg", quality=90)
        for k in range(questions):
            text = question(rng, loaded.checkpoint.processor.tokenizer, tokens)
            samples.append(Sample(question_id=f"{image}-{k}", image_id=f"{image}.jpg", question=text, answer=""))
    return samples


def extract(loaded: LoadedModel, images: Path, samples: list[Sample], new_tokens: int, workers: int) -> Run:
    """One whole extraction into a folder that goes afterwards."""
    engine = TimedEngine(loaded, CaptureSpec(probed_layers(loaded.num_layers), new_tokens), share_prefix=True)
    preparer = Preparer(Prompter(checkpoint=loaded.checkpoint), images)
    with tempfile.TemporaryDirectory() as output, open(os.devnull, "w") as silent:  # noqa: PTH123
        stderr, sys.stderr = sys.stderr, silent  # the progress
        try:
            start = time.perf_counter()
            by_image = samples_by_image(samples, images)
            folder = RunFolder(Path(output), "benchmark", [s.question_id for image in by_image for s in image])
            budget = BUDGET[loaded.device.type]
            batched = BatchRunner(engine, preparer, folder.done, token_budget=budget, workers=workers)
            outcome = run(batched, folder, by_image)
            wall = time.perf_counter() - start
        finally:
            sys.stderr = stderr
    if outcome.captured != len(samples):
        raise RuntimeError(f"{outcome.captured} of {len(samples)} captured")
    return Run(wall, engine.seconds)


def measure_memory(rows: Sequence[int]) -> dict[int, int]:
    """Peaks in bytes by the number of rows; they are printed as well."""
    print("\nextract.py --model shapes, peak resident set of its largest process")
    peaks = {count: peak_memory(count) for count in rows}
    for count, peak in peaks.items():
        print(f"{count:>8,} rows{peak / 2**20:>10.1f} MB{peak / peaks[rows[0]]:>8.3f}")
    return peaks


def peak_memory(rows: int) -> int:
    """Bytes."""
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), n_scenes=rows // 5, questions_a_scene=5, seed=0)
        call = [sys.executable, str(EXTRACT), "--model", "shapes", "--vqa-dataset", f"{folder}/vqa.csv"]
        call += ["--images-dir", f"{folder}/images", "--output-dir", f"{folder}/out", "--max-new-tokens", "8"]
        process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"extract.py ended with {process.returncode}")
    return usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
