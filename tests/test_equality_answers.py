"""The contract of every family, of answers: those of `generate`; and of the engine's work, done once and undone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from family_proof import (
    LAYERS,
    NEW_TOKENS,
    Family,
    assert_answer,
    assert_is_answer,
    family_of_prompts,
    feeding,
    generated,
    generation,
    rows_of,
    run,
    share_prefix,
    shown_images,
    single_inputs,
)
from tiny_models import TINY

from halp_probe.engine.engine import Engine
from halp_probe.models import image_entry
from halp_probe.records import CaptureSpec

__all__ = ["feeding", "share_prefix"]  # fixtures

pytestmark = pytest.mark.slow

PENALTY = 2.0


@pytest.fixture(scope="module", params=TINY)
def family(request: pytest.FixtureRequest) -> Family:
    return family_of_prompts(request.param)


@pytest.mark.usefixtures("feeding")
@pytest.mark.parametrize("penalty", [None, PENALTY])
def test_answers_equal_generate(family: Family, penalty: float | None, share_prefix: bool) -> None:
    with generation(family, repetition_penalty=penalty):
        for row, prompt in zip(rows_of(family, 8, share_prefix=share_prefix), family.prompts, strict=True):
            assert_answer(family, row, prompt)


def test_answers_hold_no_suppressed_token(family: Family, share_prefix: bool) -> None:
    """Gemma 4's generation_config names some; here those that the answers would begin with."""
    few = replace(family, prompts=family.prompts[:4])
    suppressed = sorted({int(generated(family, prompt)[0][0]) for prompt in few.prompts})
    with generation(family, suppress_tokens=suppressed):
        for row, prompt in zip(rows_of(few, 4, share_prefix=share_prefix), few.prompts, strict=True):
            assert_answer(family, row, prompt)


def test_positions_equal_those_of_generate(family: Family) -> None:
    """At the prompt and at every answer token: a shift of them all would show in no state, attention is rotary."""
    model, engine = family.loaded.model, Engine(family.loaded, CaptureSpec(LAYERS, NEW_TOKENS))
    seen: list[torch.Tensor] = []

    def add_positions(_module: Any, _args: Any, kwargs: Any) -> None:
        if kwargs["position_ids"] is None:  # the decoder counts its tokens itself
            before, tokens = sum(step.shape[-1] for step in seen), kwargs["inputs_embeds"].shape[1]
            seen.append(torch.arange(before, before + tokens)[None])
        else:
            seen.append(kwargs["position_ids"].clone())

    hook = model.get_decoder().register_forward_pre_hook(add_positions, with_kwargs=True)
    try:
        for prompt in family.prompts[:3]:
            seen.clear()
            engine.run([prompt])
            ours = list(seen)
            seen.clear()
            model.generate(
                **single_inputs(family.loaded, prompt, family.tiny), do_sample=False, max_new_tokens=NEW_TOKENS
            )
            assert len(ours) == len(seen) == NEW_TOKENS
            for step, reference in zip(ours, seen, strict=True):
                assert torch.equal(step, reference[-len(step) :])  # before mRoPE's axes generate may put a plain one
    finally:
        hook.remove()


@pytest.mark.parametrize("penalty", [None, PENALTY])
def test_answers_end_at_end_tokens_while_others_go_on(
    family: Family, share_prefix: bool, penalty: float | None
) -> None:
    """Tokens of several answers are the end tokens, so rows leave the batch at several steps.

    The reference is what `generate` says without them, up to the first; for two prompts `generate` itself.
    """
    with generation(family, repetition_penalty=penalty):
        long = [generated(family, prompt) for prompt in family.prompts]
        ends = [*_end_tokens(family), int(long[0][0][-5]), int(long[4][0][-3])]
        with generation(family, eos_token_id=ends):
            short = rows_of(family, 8, share_prefix=share_prefix)
            assert_answer(family, short[0], family.prompts[0])
            assert_answer(family, short[4], family.prompts[4])
    assert len({row.answer_tokens for row in short}) > 1
    for row, (ids, logprobs) in zip(short, long, strict=True):
        end = next((k + 1 for k, token in enumerate(ids.tolist()) if token in ends), len(ids))
        assert_is_answer(family, row, ids[:end], logprobs[:end])


def _end_tokens(family: Family) -> list[int]:
    ends = family.loaded.model.generation_config.eos_token_id
    return [] if ends is None else ends if isinstance(ends, list) else [ends]


def test_confidence_does_not_depend_on_answering(family: Family, share_prefix: bool) -> None:
    """Not even with a repetition penalty, which may choose another first token than the likeliest."""
    with generation(family, repetition_penalty=PENALTY):
        answered = rows_of(family, 8, share_prefix=share_prefix)
    spec = CaptureSpec(LAYERS, max_new_tokens=0)
    silent = Engine(family.loaded, spec, share_prefix=share_prefix).run(family.prompts)
    for with_answer, without in zip(answered, silent, strict=True):
        assert with_answer.first_token_logprob == without.first_token_logprob
        assert with_answer.first_token_entropy == without.first_token_entropy
        assert (without.answer, without.answer_tokens) == ("", 0) and np.isnan(without.answer_logprob)


@pytest.mark.usefixtures("feeding")
def test_images_are_seen_once_a_batch(family: Family, share_prefix: bool) -> None:
    """And the model is itself again afterwards: it looks at its pictures when it is called as usual."""
    model = family.loaded.model
    with counted_patches(family) as seen:
        run(family, 4, share_prefix=share_prefix, new_tokens=2)
        batched = sum(seen)
        seen.clear()
        for start in (0, 4):
            batch = family.prompts[start : start + 4]
            Engine(family.loaded, CaptureSpec(LAYERS, 0)).run(list({p.image_sha256: p for p in batch}.values()))
        assert batched == sum(seen) > 0
        seen.clear()
        with torch.no_grad():
            model(**single_inputs(family.loaded, family.prompts[0], family.tiny))
        assert seen


@contextmanager
def counted_patches(family: Family) -> Iterator[list[int]]:
    """Inside the context, numbers that come out of the projector, call by call."""
    table, counts = family.loaded.checkpoint.family, []
    module = family.loaded.model.get_submodule(table.encoder or table.projector)

    def count(_module: Any, _args: Any, output: Any) -> None:
        tensor = output if isinstance(output, torch.Tensor) else output[0]
        counts.append(tensor.numel())

    hook = module.register_forward_hook(count)
    try:
        yield counts
    finally:
        hook.remove()


def test_after_an_error_the_model_is_itself_again(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    if not family.tiny.handed_out:
        pytest.skip("this family's images do not enter by get_image_features: there is one way to feed them")
    monkeypatch.setattr(image_entry, "takes_features", lambda model: False)
    model, prompt, table = family.loaded.model, family.prompts[0], family.loaded.checkpoint.family
    with torch.no_grad():
        shown = shown_images(family.loaded, prompt)
        images = {name: shown[name] for name in table.image_inputs}
        expected = model(**single_inputs(family.loaded, prompt, family.tiny)).logits
        pixels = next(name for name in images if "pixel_values" in name)
        other = table.features(model, {**images, pixels: -images[pixels]})
        with pytest.raises(torch.OutOfMemoryError), table.entry(model, other, images, {}):
            raise torch.OutOfMemoryError("pretended")
        assert torch.equal(model(**single_inputs(family.loaded, prompt, family.tiny)).logits, expected)


def test_features_that_no_call_took_are_an_error() -> None:
    class Model:
        model = SimpleNamespace()

        def forward(self, **kwargs: Any) -> None:
            """Takes no features, as in transformers 5.17."""

    with (
        pytest.raises(RuntimeError, match="took the image features 0 times"),
        image_entry.pass_features(Model(), None, {}, {}),
    ):
        pass


def test_the_vision_tower_and_the_prefix_run_once_an_image(family: Family) -> None:
    """Counted at the modules: features out of the projector, tokens into the first block."""
    table, model = family.loaded.checkpoint.family, family.loaded.model
    batches: list[tuple[int, ...]] = []
    axis = family.tiny.token_axis
    hook = table.blocks(model)[0].register_forward_pre_hook(
        lambda _m, args: batches.append(args[0].shape[axis - 1 :][:2])
    )
    one_an_image = [prompt for prompt in family.prompts if prompt.sample.question_id in "0124"]
    patches = []
    try:
        for prompts, share in ((family.prompts, True), (family.prompts, False), (one_an_image, True)):
            with counted_patches(family) as seen:
                Engine(family.loaded, CaptureSpec(LAYERS, 0), share_prefix=share).run(prompts)
            patches.append(sum(seen))
    finally:
        hook.remove()
    assert len(set(patches)) == 1
    ids = [prompt.input_ids.tolist() for prompt in family.prompts]
    heads = {}  # on images 0, 1 and 2; image 3 has one question
    for rows in ((0, 3, 7), (1, 5), (2, 6)):
        own = [ids[row] for row in rows]
        common = len(list(takewhile(lambda column: len(set(column)) == 1, zip(*own, strict=False))))
        heads[rows] = min(common, *(len(row) - 1 for row in own))  # the query token is no part of it
    tails = [len(ids[row]) - head for rows, head in heads.items() for row in rows]
    tails.append(len(ids[4]) - (family.prompts[4].positions.vision_index + 1 + family.tiny.behind_image))
    whole = batches
    if not table.unshared:
        (images, prefix), (rows, suffix), *whole = batches
        assert (images, prefix) == (4, max(heads.values())) and (rows, suffix) == (8, max(tails))
    assert whole[-2:] == [(8, max(map(len, ids))), (4, max(len(prompt) for prompt in one_an_image))]


def test_hooks_are_gone_afterwards(family: Family) -> None:
    def count() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in family.loaded.model.modules())

    before = count()
    for share in (True, False):
        run(family, 8, share_prefix=share, new_tokens=2)
    assert count() == before
