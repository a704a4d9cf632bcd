"""Capture one prompt's states, for a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from halp_probe.engine.engine import Engine
from halp_probe.engine.pictures import Picture, load_pictures
from halp_probe.engine.positions import parse_layers, parse_positions
from halp_probe.engine.prompting import Prompter
from halp_probe.models.loading import LoadedModel
from halp_probe.models.options import load_model
from halp_probe.records import USUAL_POSITIONS, Captured, CaptureSpec, Sample
from halp_probe.settings import options_json


def capture(
    model: str | LoadedModel,
    image: Picture | Sequence[Picture] | None,
    question: str,
    *,
    layers: str | Sequence[int] | None = None,
    positions: str | Sequence[str] = USUAL_POSITIONS,
    max_new_tokens: int = 0,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    prompt_date: str | None = None,
    template_options: Mapping[str, Any] | None = None,
    system_prompt: str | None = None,
) -> Captured:
    """Capture the states of one question about an image, as `extract` captures those of a table.

    Parameters
    ----------
    model
        A loaded model, or a name that `load_model` takes.
    image
        A file's name or its bytes, a PIL image, a uint8 array [H, W, 3] (RGB) or [H, W], several of them in order, or
        None for a prompt of text alone.
    question
        The user's text.
    layers
        Decoder blocks to read, counted from 0, or 'all'; None: 0, n/4, n/2, 3n/4 and n-1 of n.
    positions
        Where they are read, as in `extract`.
    max_new_tokens
        Longest greedy answer, in tokens; 0: no answer.
    min_pixels, max_pixels, prompt_date, template_options, system_prompt
        As in `extract`.

    Returns
    -------
    States as float32 arrays on the CPU: `vision_token[layer]` and `query_token[layer]` [D] (and `question_end`,
    `image_mean` if asked for), `vision_only` [D],
    `vision_encoder` [V]; token positions and ids; log-probability and entropy of the first token in nats; the answer.

    Raises
    ------
    InputError
        When the model, the image, the question or a layer cannot be used.

    Examples
    --------
    >>> import halp_probe
    >>> captured = halp_probe.capture("shapes", "images/scene_000000.png", "Is there a red shape?")
    >>> sorted(captured.query_token), captured.query_token[5].shape
    ([0, 1, 3, 4, 5], (128,))
    """
    loaded = model if isinstance(model, LoadedModel) else load_model(model)
    images = load_pictures(image)
    names = tuple(each.sha256 for each in images)
    options, read = options_json(template_options), parse_positions(positions)
    prompter = Prompter(
        checkpoint=loaded.checkpoint,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        answer_tokens=max_new_tokens,
        date=prompt_date,
        template_options=options,
        system=system_prompt,
        question_end="question-end" in read,
    )
    sample = Sample(
        question_id="question", image_id=names[0] if names else "text", question=question, answer="", images=names
    )
    prompter.check([sample])
    spec = CaptureSpec(parse_layers(layers, loaded.num_layers), max_new_tokens, positions=read)
    (captured,) = Engine(loaded, spec).run([prompter.prompt(sample, *images)])
    return captured
