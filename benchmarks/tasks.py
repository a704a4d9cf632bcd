"""How fast tasks are answered: our engine, from image files to replies, against `generate` prompt after prompt.

    python benchmarks/tasks.py --preset small                 # on a CPU: minutes
    python benchmarks/tasks.py --preset qwen2.5-vl-7b         # on a GPU of 40 GB or more
    python benchmarks/tasks.py --preset tiny --check          # equality alone: seconds

Two workloads: `qa`, 8 questions an image with short replies; `stage-a`, one prompt an image with a line for a reply.
Both ways run in one process on the same files, and what they reply is compared. Weights are random, made from a config,
and know no end token: every reply has its full length.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from figures import add_json, write_figures
from measuring import environment, measured
from presets import PRESETS, build_model
from qwen_vl_utils import process_vision_info
from whole_run import write_pictures

from halp_probe.answering.local import LocalAnswerer
from halp_probe.answering.options import AnswerOptions
from halp_probe.commands.arguments import positive
from halp_probe.engine.prompting import Prompter
from halp_probe.models.loading import LoadedModel
from halp_probe.models.options import ModelOptions
from halp_probe.records import Failure, Sample


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What one task asks, about as long as the real prompts and replies are."""

    prompts_an_image: int
    prompt_tokens: int  # of the text
    new_tokens: int
    batch_size: int  # images, the command's default


# A line of Stage-A on one photograph has some 130 tokens in the published examples.
WORKLOADS = {
    "qa": Workload(prompts_an_image=8, prompt_tokens=60, new_tokens=8, batch_size=4),
    "stage-a": Workload(prompts_an_image=1, prompt_tokens=120, new_tokens=128, batch_size=8),
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """One workload. Seconds are of each repeat."""

    workload: str
    prompts: int
    alone_prompts: int  # of which one at a time was measured
    ours_seconds: tuple[float, ...]
    alone_seconds: tuple[float, ...]
    same_replies: int  # of `alone_prompts`

    @property
    def ratio(self) -> float:
        """Prompts a second of ours over one at a time, both by their best repeat."""
        return (self.prompts / min(self.ours_seconds)) / (self.alone_prompts / min(self.alone_seconds))


def main(arguments: list[str] | None = None) -> int:
    """The exit status is 1 when a reply differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="small")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--images", type=positive, default=32, help="JPEGs of 640 × 480 (%(default)s)")
    parser.add_argument("--alone-images", type=positive, default=4, help="of them one at a time (%(default)s)")
    parser.add_argument("--repeats", type=positive, default=3, help="the best counts (%(default)s)")
    parser.add_argument("--check", action="store_true", help="compare replies, time nothing")
    add_json(parser)
    args = parser.parse_args(arguments)
    loaded = build_model(args.preset, torch.device(args.device))
    about = {"preset": args.preset, **environment(loaded.device, loaded.model.dtype)}
    print(f"{about['date']}  {about['machine']}, {about['device']}, {about['threads']} threads, {about['dtype']}")
    print(f"torch {about['torch']}, transformers {about['transformers']}; model {args.preset}, random weights")
    print(f"{'':<10}{'prompts':>8}{'ours/s':>9}{'alone/s':>9}{'ratio':>8}{'same replies':>15}")
    results = [measure(name, loaded, args) for name in args.workloads]
    rows = [{**asdict(result), "ratio": result.ratio} for result in results]
    write_figures(args.json, {**about, "results": rows})
    return int(any(result.same_replies < result.alone_prompts for result in results))


def measure(name: str, loaded: LoadedModel, args: argparse.Namespace) -> Result:
    """Both ways in turn, after a warm-up; prints a line."""
    load = WORKLOADS[name]
    with tempfile.TemporaryDirectory() as folder:
        samples = write_pictures(Path(folder), loaded, args.images, load.prompts_an_image, load.prompt_tokens)
        few = samples[: args.alone_images * load.prompts_an_image]
        ours: Callable[[], dict[str, str]] = lambda: batched(loaded, Path(folder), samples, load)  # noqa: E731
        alone: Callable[[], dict[str, str]] = lambda: one_at_a_time(loaded, Path(folder), few, load)  # noqa: E731
        replies, expected = ours(), alone()
        ours_seconds, alone_seconds = [], []
        for _ in range(1 if args.check else args.repeats):
            ours_seconds.append(measured(ours, loaded.device).seconds)
            alone_seconds.append(measured(alone, loaded.device).seconds)
    same = sum(replies[key] == text for key, text in expected.items())
    result = Result(
        workload=name,
        prompts=len(samples),
        alone_prompts=len(few),
        ours_seconds=tuple(ours_seconds),
        alone_seconds=tuple(alone_seconds),
        same_replies=same,
    )
    told = "" if args.check else f"{len(samples) / min(ours_seconds):>9.2f}{len(few) / min(alone_seconds):>9.2f}"
    ratio = "" if args.check else f"{result.ratio:>8.2f}"
    print(f"{name:<10}{len(samples):>8}{told}{ratio}{same:>9} of {len(few)}")
    return result


def batched(loaded: LoadedModel, folder: Path, samples: list[Sample], load: Workload) -> dict[str, str]:
    """Our engine, with all that a run does but its log: sharing tried, images read, prompts made, replies decoded."""
    options = AnswerOptions(
        model=ModelOptions(model="random"),
        template_options=None,
        max_new_tokens=load.new_tokens,
        batch_size=load.batch_size,
    )
    answerer = LocalAnswerer(loaded, Prompter(checkpoint=loaded.checkpoint), folder, options)
    replies = {}
    for results in answerer.answer(samples, {}, 1, lambda: False):
        for result in results:
            if isinstance(result, Failure):
                raise RuntimeError(f"{result.question_id}: {result.reason}")
            replies[result.key] = result.text
    return replies


@torch.no_grad()
def one_at_a_time(loaded: LoadedModel, folder: Path, samples: list[Sample], load: Workload) -> dict[str, str]:
    """Each prompt by itself through qwen-vl-utils, the processor and `generate`."""
    processor, replies = loaded.checkpoint.processor, {}
    size = processor.image_processor.size
    bounds = {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
    for sample in samples:
        image = {"type": "image", "image": str(folder / sample.image_id), **bounds}
        message = [{"role": "user", "content": [image, {"type": "text", "text": sample.question}]}]
        text = processor.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        pictures, _ = process_vision_info(message, image_patch_size=processor.image_processor.patch_size)
        inputs = processor(text=[text], images=pictures, do_resize=False, return_tensors="pt")
        inputs = inputs.to(loaded.device, loaded.model.dtype)
        ids = loaded.model.generate(**inputs, do_sample=False, max_new_tokens=load.new_tokens)
        reply = processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        replies[sample.question_id] = reply.strip()
    return replies


if __name__ == "__main__":
    raise SystemExit(main())
