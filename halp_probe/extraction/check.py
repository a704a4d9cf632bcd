"""Check a model before a long run: what can go wrong is tried on small pictures, and told in words.

Nothing is written. Each check is independent of the others, apart from the loading itself.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice, starmap
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from halp_probe.engine.engine import Engine
from halp_probe.engine.images import (
    ImagesDir,
    LoadedImage,
    folder_path,
    from_pixels,
    image_path,
    load_image,
    pixel_count,
)
from halp_probe.engine.positions import probed_layers
from halp_probe.engine.prompting import Prompt, Prompter
from halp_probe.engine.proving import ALLOWED, plain_difference
from halp_probe.engine.sharing import try_prompts
from halp_probe.errors import InputError
from halp_probe.models.errors import one_line
from halp_probe.models.loading import LoadedModel
from halp_probe.records import CaptureSpec, Sample
from halp_probe.version import __version__

QUESTIONS = ("Is there a person in this image?", "What is in the picture, and where? Answer in one sentence.")
_SIZES = ((336, 336), (640, 427), (1600, 80), (1920, 1080))  # width, height of pictures where no folder is given
_MANY_TOKENS = 4096  # of one image
_FILES = 1000  # of a folder, whose headers are read
_NEW_TOKENS = 8
_ERRORS = (InputError, RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError)
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Outcome of one check."""

    subject: str
    passed: bool
    text: str  # may have several lines


def check_model(loaded: LoadedModel, prompter: Prompter, images_dir: ImagesDir | None = None) -> Iterator[Finding]:
    """Yield the outcome of each check of a loaded model, with pictures of `images_dir` or made ones.

    The first finding tells versions and the model; a check that fails says what to do.
    """
    yield Finding(subject="model", passed=True, text=_describe(loaded))
    pictures = _made_pictures()
    try:
        asked = [(_sample(text, number), picture) for number, picture in enumerate(pictures[:2]) for text in QUESTIONS]
        prompts = [prompter.prompt(*each) for each in asked]
        plain = [_on_device(prompter.plain_inputs(*each), loaded) for each in asked]
    except InputError as error:
        yield Finding(subject="prompt", passed=False, text=str(error))
        return
    yield Finding(subject="prompt", passed=True, text=render(prompter, prompts[0]))
    if images_dir is None:
        yield _count_tokens(prompter, pictures, must_fit=False)
    else:
        yield _count_tokens(prompter, list(_pictures_of(images_dir)), must_fit=True)
    for subject, check in (
        ("states", partial(_check_states, loaded, prompts, plain)),
        ("answers", partial(_check_answers, loaded, prompts, plain)),
        ("sharing", partial(_check_sharing, loaded, prompts[:2])),
        ("cost", partial(_measure, loaded, prompts)),
    ):
        try:
            yield check()
        except _ERRORS as error:
            yield Finding(subject=subject, passed=False, text=f"{type(error).__name__}: {one_line(error)}")


def render(prompter: Prompter, prompt: Prompt) -> str:
    """Return a prompt's text with runs of one token shortened, and the two positions that are read marked."""
    tokenizer = prompter.checkpoint.processor.tokenizer
    marks = {prompt.positions.vision_index: "vision token", prompt.positions.query_index: "query token"}
    parts, index = [], 0
    for token, run in groupby(prompt.input_ids.tolist()):
        length = len(list(run))
        text = tokenizer.decode([token]) * (length if length < 4 else 1)
        parts.append(text if length < 4 else f"{text} × {length} ")
        index += length
        if (name := marks.get(index - 1)) is not None:
            parts.append(f"⟦{name}, {index - 1}⟧")
    return "".join(parts)


def _describe(loaded: LoadedModel) -> str:
    checkpoint, model = loaded.checkpoint, loaded.model
    parameters = sum(parameter.numel() for parameter in model.parameters())
    dtype = str(model.dtype).removeprefix("torch.")
    looked_up = ", looked up, not in the table of families" if checkpoint.family.looked_up else ""
    lines = [
        f"halp_probe {__version__}, torch {torch.__version__}, transformers {transformers.__version__}",
        f"{checkpoint.name} at {checkpoint.revision}: {checkpoint.model_type}{looked_up}",
        f"{parameters / 1e6:,.1f} M parameters, all from its files; {dtype} on {loaded.device}; "
        f"{loaded.num_layers} layers, of which {', '.join(map(str, probed_layers(loaded.num_layers)))} are read",
    ]
    if checkpoint.stack:
        lines.append(f"adapters: {checkpoint.stack}")
    return "\n".join(lines)


def _count_tokens(prompter: Prompter, pictures: Sequence[LoadedImage], *, must_fit: bool) -> Finding:
    """Tell how many tokens pictures of these sizes become; the check fails if there is none, or one must fit but fails.

    A picture of a made size may be one that no user of this model has.
    """
    lines, passed, most = [], bool(pictures), 0
    for picture in pictures:
        size = f"{picture.pixels.width} × {picture.pixels.height}"
        try:
            prompt = prompter.prompt(_sample(QUESTIONS[0], 0), picture)
        except InputError as error:
            passed = passed and not must_fit
            lines.append(f"{size}: {error}")
            continue
        most = max(most, prompt.image_tokens)
        lines.append(f"{size}: {prompt.image_tokens} image tokens of {len(prompt)}")
    if most > _MANY_TOKENS and prompter.checkpoint.family.takes_pixel_bounds:
        lines.append("large pictures cost most of a run: `max_pixels` 1003520 bounds them to about a megapixel")
    return Finding(subject="pictures", passed=passed, text="\n".join(lines) or "the folder holds no picture")


def _on_device(inputs: Mapping[str, Any], loaded: LoadedModel) -> dict[str, Any]:
    """Return the processor's output as `forward` takes it: on the model's device, pictures in its dtype."""
    return {
        name: value.to(loaded.device, loaded.model.dtype if value.is_floating_point() else value.dtype)
        if isinstance(value, torch.Tensor)
        else value
        for name, value in inputs.items()
    }


def _check_states(loaded: LoadedModel, prompts: Sequence[Prompt], plain: Sequence[Mapping[str, Any]]) -> Finding:
    """Compare states read in one batch with those of a plain pass of each prompt alone."""
    layers = probed_layers(loaded.num_layers)
    rows = Engine(loaded, CaptureSpec(layers, max_new_tokens=0)).run(prompts)
    try:
        worst = max(starmap(partial(plain_difference, loaded), zip(prompts, rows, plain, strict=True)))
    except _ERRORS as error:
        return _not_compared("states", error)
    allowed = ALLOWED[loaded.model.dtype]
    return Finding(
        subject="states",
        passed=worst <= allowed,
        text=f"in one batch against plain passes one by one: {worst:.1e} of a vector's length (allowed {allowed:.0e})",
    )


def _not_compared(subject: str, error: Exception) -> Finding:
    """Return a finding for a family whose own forward needs more than the prompt: its proof is in the tests."""
    text = f"not compared: a plain pass of this model fails ({type(error).__name__}: {one_line(error)})"
    return Finding(subject=subject, passed=True, text=text)


def _check_answers(loaded: LoadedModel, prompts: Sequence[Prompt], plain: Sequence[Mapping[str, Any]]) -> Finding:
    """Compare greedy answers with those of `generate`, a prompt at a time."""
    rows = Engine(loaded, CaptureSpec((0,), _NEW_TOKENS)).run(prompts)
    tokenizer = loaded.checkpoint.processor.tokenizer
    differing = []
    for prompt, row, inputs in zip(prompts, rows, plain, strict=True):
        try:
            ids = loaded.model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=_NEW_TOKENS)
        except _ERRORS as error:
            return _not_compared("answers", error)
        expected = tokenizer.decode(ids[0, len(prompt) :], skip_special_tokens=True).strip()
        if row.answer != expected:
            differing.append(f"{row.answer!r} for {expected!r}")
    exact = loaded.model.dtype == torch.float32
    told = f"; other: {'; '.join(differing)}" if differing else ""
    rounding = "" if exact or not differing else " (in half precision, rounding may choose another token)"
    return Finding(
        subject="answers",
        passed=not differing or not exact,
        text=f"{len(prompts) - len(differing)} of {len(prompts)} are those of generate{told}{rounding}; "
        f"the first: {rows[0].answer!r}",
    )


def _check_sharing(loaded: LoadedModel, prompts: Sequence[Prompt]) -> Finding:
    """Try whether questions on one image can share their prefix; not sharing is slower, not wrong."""
    sharing = try_prompts(loaded, probed_layers(loaded.num_layers), prompts)
    text = "questions on one image share its prefix" if sharing.shared else f"no sharing of prefixes: {sharing.reason}"
    measured = "" if sharing.difference is None else f" (difference {sharing.difference:.1e})"
    return Finding(subject="sharing", passed=True, text=text + measured)


def _measure(loaded: LoadedModel, prompts: Sequence[Prompt]) -> Finding:
    """Measure the time of a row in a batch of these prompts, and the largest memory so far."""
    engine = Engine(loaded, CaptureSpec(probed_layers(loaded.num_layers), max_new_tokens=0), share_prefix=True)
    engine.run(prompts)
    begin = time.perf_counter()
    engine.run(prompts)
    seconds = (time.perf_counter() - begin) / len(prompts)
    if loaded.device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(loaded.device)
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    tokens = int(np.mean([len(prompt) for prompt in prompts]))
    return Finding(
        subject="cost",
        passed=True,
        text=f"{seconds * 1000:.0f} ms a row of {tokens} tokens without an answer; {memory / 1e9:.1f} GB at most",
    )


def _made_pictures() -> list[LoadedImage]:
    """Draw pictures of several sizes and shapes, the same every time."""
    rng = np.random.default_rng(0)
    return [
        from_pixels(
            Image.fromarray(rng.integers(0, 255, size=(8, 8, 3), dtype=np.uint8)).resize(
                size, Image.Resampling.BILINEAR
            )
        )
        for size in _SIZES
    ]


def _pictures_of(images_dir: ImagesDir) -> Iterator[LoadedImage]:
    """Yield the smallest picture of a folder, that of median area, and the largest."""
    folder = folder_path(images_dir)
    files = islice((file for file in sorted(folder.rglob("*")) if file.suffix.lower() in _PICTURES), _FILES)
    by_area = sorted(files, key=pixel_count)
    for index in sorted({0, len(by_area) // 2, len(by_area) - 1}) if by_area else ():
        yield load_image(image_path(images_dir, str(by_area[index].relative_to(folder))))


def _sample(question: str, number: int) -> Sample:
    return Sample(question_id=f"{number} {question}", image_id=f"picture {number}", question=question, answer="")
