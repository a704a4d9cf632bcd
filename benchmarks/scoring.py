"""What a risk before the first token costs: time to the first token of `generate`, of ours, and of ours with a risk.

    python benchmarks/scoring.py --preset small                     # on a CPU: minutes
    python benchmarks/scoring.py --preset tiny --check              # equality alone: seconds

One question at a time on a model of random weights, as a user at a prompt meets it; a different picture each time.
Three ways in turns on the same loaded model and inputs: `model.generate(max_new_tokens=1)`; `Engine` without a probe,
one prefill and the first token from its logits; the same with a linear probe that is asked before the first token.
Inputs are made beforehand, and then once more by each way: `RiskScorer.answer` from a picture in memory on, against the
model's own processor and `generate`. Ratios are medians over questions of the ratios of one question's times.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from statistics import median, quantiles
from typing import Any

import numpy as np
import torch
from figures import add_json, write_figures
from measuring import environment, measured
from PIL import Image
from presets import PRESETS, build_model, question

from halp_probe.commands.arguments import positive
from halp_probe.engine.engine import ComputedBatch, Engine
from halp_probe.engine.images import LoadedImage, from_pixels
from halp_probe.engine.prompting import Prompt, Prompter
from halp_probe.engine.provenance import run_settings
from halp_probe.extraction.manifest import shard_attributes
from halp_probe.models.loading import LoadedModel
from halp_probe.probes.card import vectors_card
from halp_probe.probes.files import SavedProbe, image_keys
from halp_probe.probes.fitting.estimators import LinearProbe
from halp_probe.probes.judging.calibration import Calibration
from halp_probe.records import CaptureSpec, Sample
from halp_probe.scoring.scorer import RiskScorer, risk_gate

GENERATE, PLAIN, RISK = "generate", "ours, no risk", "ours, with risk"
Way = Callable[[Sample, LoadedImage, Prompt], list[int]]  # -> the answer's token ids


def main(arguments: list[str] | None = None) -> int:
    """The exit status is 1 when `--check` finds a first token that differs, or a risk that is not the offline one."""
    options = _options(arguments)
    loaded = build_model(options.preset, torch.device(options.device))
    rows = make_rows(loaded, options.questions, PRESETS[options.preset].picture)
    probe = make_probe(loaded, [prompt for _sample, _image, prompt in rows])
    from_prompts, from_pictures = prompt_ways(loaded, probe), picture_ways(loaded, probe)
    if options.check:
        return check(loaded, probe, rows, [*from_prompts.values(), *from_pictures.values()])
    report: dict[str, Any] = {**environment(loaded.device, loaded.model.dtype), "preset": options.preset}
    print(*(f"{name}: {value}" for name, value in report.items()), sep="\n")
    for title, ways in (("inputs made beforehand", from_prompts), ("from a picture in memory", from_pictures)):
        report[title] = seconds = interleaved(ways, rows, options.repeats, loaded.device)
        print(f"\n{title}, {len(rows)} questions")
        for name, times in seconds.items():
            print(f"  {name:16} {1000 * median(times):8.1f} ms to the first token")
        for other in list(ways)[:-1]:
            print(f"  with risk / {other:14} {_ratio(seconds[RISK], seconds[other])}")
        write_figures(options.json, report)
    return 0


def make_rows(loaded: LoadedModel, count: int, picture: tuple[int, int]) -> list[tuple[Sample, LoadedImage, Prompt]]:
    """A question on each of so many pictures."""
    rng, prompter, rows = np.random.default_rng(11), Prompter(checkpoint=loaded.checkpoint), []
    width, height = picture
    for number in range(count):
        coarse = rng.integers(0, 255, size=(max(2, height // 40), max(2, width // 40), 3), dtype=np.uint8)
        image = from_pixels(Image.fromarray(coarse).resize(picture, Image.Resampling.BICUBIC))
        sample = Sample(
            question_id=str(number),
            image_id="",
            question=question(rng, loaded.checkpoint.processor.tokenizer),
            answer="",
        )
        rows.append((sample, image, prompter.prompt(sample, image)))
    return rows


def make_probe(loaded: LoadedModel, prompts: list[Prompt]) -> SavedProbe:
    """A calibrated linear probe of the query token in the middle of the model, fitted on random labels."""
    layer = loaded.num_layers // 2
    name = f"query_token_representation/layer_{layer}"
    spec = CaptureSpec((layer,), 1)
    x = np.concatenate([Engine(loaded, spec).compute([prompt]).vectors(name) for prompt in prompts])
    y = np.arange(len(x)) % 2
    estimator = LinearProbe(Cs=(1e-2,)).fit(x, y)
    attributes = shard_attributes(
        loaded, run_settings(loaded, Prompter(checkpoint=loaded.checkpoint), spec), prefix_shared=False
    )
    calibration = Calibration.fit("platt", estimator.decision_function(x), y)
    return SavedProbe(
        estimator=estimator,
        metadata=vectors_card(name, attributes),
        calibration=calibration,
        threshold=None,
        training_images=image_keys(()),
    )


def prompt_ways(loaded: LoadedModel, probe: SavedProbe) -> dict[str, Way]:
    """From a prompt whose ids and pixels are there."""
    spec = CaptureSpec((loaded.num_layers // 2,), 1)
    plain, gated = Engine(loaded, spec), Engine(loaded, spec, gate=risk_gate(probe, 1.0))
    return {
        GENERATE: lambda _sample, _image, prompt: _generate(loaded, _inputs(prompt), len(prompt)),
        PLAIN: lambda _sample, _image, prompt: plain.compute([prompt]).answers[0],
        RISK: lambda _sample, _image, prompt: gated.compute([prompt]).answers[0],
    }


def picture_ways(loaded: LoadedModel, probe: SavedProbe) -> dict[str, Way]:
    """From a picture and a text."""
    scorer = RiskScorer(loaded, probe)
    processor = loaded.checkpoint.processor

    def plain(sample: Sample, image: LoadedImage, _prompt: Prompt) -> list[int]:
        content = [{"type": "image", "image": image.pixels}, {"type": "text", "text": sample.question}]
        turn = [{"role": "user", "content": content}]
        text = processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        inputs = processor(text=[text], images=[image.pixels], return_tensors="pt")
        return _generate(loaded, dict(inputs), inputs["input_ids"].shape[1])

    def ours(sample: Sample, image: LoadedImage, _prompt: Prompt) -> list[int]:
        answer = scorer.answer(image.pixels, sample.question, abstain_above=1.0, max_new_tokens=1)
        return list(answer.token_ids)

    return {GENERATE: plain, RISK: ours}


def check(
    loaded: LoadedModel, probe: SavedProbe, rows: list[tuple[Sample, LoadedImage, Prompt]], ways: list[Way]
) -> int:
    """Whether all ways give the same first tokens, and the scorer the risks of the probe on captured states."""
    first = [[way(*row) for row in rows] for way in ways]
    same = all(tokens == first[0] for tokens in first)
    computed: ComputedBatch = Engine(loaded, CaptureSpec((loaded.num_layers // 2,), 0)).compute(
        [row[2] for row in rows]
    )
    offline = probe.risk(computed.vectors(str(probe.metadata["representation"])))
    scorer = RiskScorer(loaded, probe)
    online = [scorer.score(image.pixels, sample.question) for sample, image, _prompt in rows]
    gap = float(np.abs(np.array(online) - offline).max())
    print(f"first tokens {'equal' if same else 'DIFFER'} in {len(ways)} ways; risks differ by {gap:.1g} at most")
    return 0 if same and gap <= 1e-5 else 1


def interleaved(
    ways: dict[str, Way], rows: list[tuple[Sample, LoadedImage, Prompt]], repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each way for each question, the best of so many; in turns, so what else the machine does hits all.

    A first round, untimed, warms up.
    """
    best = {name: [float("inf")] * len(rows) for name in ways}
    names = list(ways)
    for repeat in range(repeats + 1):
        for number, row in enumerate(rows):
            turn = (repeat + number) % len(names)  # none is always the first
            for name in names[turn:] + names[:turn]:
                taken = measured(partial(ways[name], *row), device).seconds
                if repeat:
                    best[name][number] = min(best[name][number], taken)
    return best


def _ratio(ours: list[float], theirs: list[float]) -> str:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    low, _middle, high = quantiles(ratios, n=4)
    return f"{median(ratios):.3f} (half of the questions: {low:.3f} to {high:.3f})"


def _generate(loaded: LoadedModel, inputs: dict[str, torch.Tensor], length: int) -> list[int]:
    inputs = {name: tensor.to(loaded.device) for name, tensor in inputs.items()}
    sequences = loaded.model.generate(**inputs, do_sample=False, max_new_tokens=1)
    ids: list[int] = sequences[0, length:].tolist()
    return ids


def _inputs(prompt: Prompt) -> dict[str, torch.Tensor]:
    ids, types = torch.from_numpy(prompt.input_ids)[None], torch.from_numpy(prompt.token_types)[None]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": types, **prompt.images}


def _options(arguments: list[str] | None) -> argparse.Namespace:
    summary = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(description=summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="small", help="the model's size")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda or cuda:N")
    add("--questions", type=positive, default=12, help="each on a picture of its own")
    add("--repeats", type=positive, default=3, help="timed runs of each way on each question, of which the best counts")
    add_json(parser)
    add("--check", action="store_true", help="compare first tokens and risks instead")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    raise SystemExit(main())
