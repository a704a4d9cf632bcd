"""Prompts of two images, and of text alone, in every family: equal to a plain forward pass and `generate`, or refused.

The references are those of `test_equality.py`: one sample, no padding, nothing shared.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from family_proof import NEW_TOKENS, Family, Reference, assert_answer, assert_close, shown_images, single_inputs
from PIL import Image
from tiny_models import TINY, tiny_model

from halp_probe.engine import prefill
from halp_probe.engine.engine import Engine
from halp_probe.engine.images import LoadedImage
from halp_probe.engine.preparing import Preparer
from halp_probe.engine.prompting import Prompt, Prompter, PromptError
from halp_probe.engine.proving import prove_looked_up
from halp_probe.errors import InputError
from halp_probe.models.families.defaults import RECURRENT
from halp_probe.models.family import RowPositions, plain_positions
from halp_probe.records import Captured, CaptureSpec, Sample

pytestmark = pytest.mark.slow

LAYERS = (0, 3, 5)
QUESTIONS = ("Which is red?", "What colour is the very small square in the second picture?", "How many?", "Which?")
PICTURES = ((64, 64), (70, 100), (96, 56))  # width, height
SHOWN = ((0, 1), (2, 0), (0, 1), (1,))  # two prompts on the same images, one on the same two in part, one on one


@pytest.fixture(scope="module", params=TINY)
def family(request: pytest.FixtureRequest) -> Family:
    return Family(TINY[request.param], tiny_model(request.param), [])


def picture(size: tuple[int, int], seed: int) -> LoadedImage:
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 255, size=(height // 8, width // 8, 3), dtype=np.uint8)
    return LoadedImage(Image.fromarray(pixels).resize(size), f"content {seed}")


def prompts_on_images(family: Family) -> list[Prompt]:
    prompter, pictures = (
        Prompter(checkpoint=family.loaded.checkpoint),
        [picture(size, k + 10) for k, size in enumerate(PICTURES)],
    )
    samples = [
        Sample(question_id=str(k), image_id="", question=QUESTIONS[k], answer="", images=tuple(map(str, shown)))
        for k, shown in enumerate(SHOWN)
    ]
    return [prompter.prompt(sample, *(pictures[int(file)] for file in sample.files)) for sample in samples]


def prompts_of_text(family: Family) -> list[Prompt]:
    prompter = Prompter(checkpoint=family.loaded.checkpoint)
    return [
        prompter.prompt(Sample(question_id=str(k), image_id="note", question=text, answer="", images=()))
        for k, text in enumerate(QUESTIONS)
    ]


def captured(family: Family, prompts: list[Prompt], *, share_prefix: bool) -> list[Captured]:
    return Engine(family.loaded, CaptureSpec(LAYERS, NEW_TOKENS), share_prefix=share_prefix).run(prompts)


def one_by_one(family: Family, prompt: Prompt) -> list[dict[str, torch.Tensor]]:
    """The image inputs of each image, where a row of the tensors is one; otherwise all in one."""
    count, pixels = prompt.image_count, next(iter(prompt.images.values()))
    if len(pixels) != count or prompt.images.keys() & family.loaded.checkpoint.family.optional_image_inputs:
        return [prompt.images]
    own = {name: len(tensor) == count for name, tensor in prompt.images.items()}
    return [{name: t[k : k + 1] if own[name] else t for name, t in prompt.images.items()} for k in range(count)]


def means(family: Family, prompt: Prompt) -> tuple[np.ndarray, np.ndarray | None]:
    """Over all tokens and over all patches of all images; None where `Reference` tells the first."""
    tiny, loaded = family.tiny, family.loaded
    parts = [shown_images(loaded, replace(prompt, images=part)) for part in one_by_one(family, prompt)]
    with torch.no_grad():
        patches = torch.cat([tiny.vision_encoder(loaded, part) for part in parts])
        tokens = None if tiny.vision_only is None else torch.cat([tiny.vision_only(loaded, part) for part in parts])
    return patches.mean(0).numpy(), None if tokens is None else tokens.mean(0).numpy()


def assert_near(family: Family, vector: np.ndarray, reference: np.ndarray) -> None:
    """To 1e-5; where padding moves the chunks in which a recurrence sums in float32, to 3e-5 (5e-16 in float64)."""
    if family.loaded.checkpoint.family.unshared == RECURRENT:
        assert np.abs(vector - reference).max() <= 3e-5 * np.abs(reference).max()
    else:
        assert_close(vector, reference)


@pytest.mark.parametrize("share_prefix", [False, True], ids=["whole", "shared"])
def test_prompts_of_two_images_equal_the_reference(family: Family, share_prefix: bool) -> None:
    if family.loaded.checkpoint.family.several_images:
        pytest.skip("refused, as another test says")
    prompts = prompts_on_images(family)
    for row, prompt in zip(captured(family, prompts, share_prefix=share_prefix), prompts, strict=True):
        reference = Reference(family, prompt)
        assert row.vision_index == reference.vision_index
        assert row.query_index == reference.query_index
        for layer in LAYERS:
            assert_near(family, row.vision_token[layer], reference.state(layer, reference.vision_index))
            assert_near(family, row.query_token[layer], reference.state(layer, reference.query_index))
        patches, tokens = means(family, prompt)
        assert row.vision_encoder is not None and row.vision_only is not None
        assert_close(row.vision_encoder, patches)
        assert_close(row.vision_only, reference.vision_only if tokens is None else tokens)
        assert_answer(family, row, prompt)


def test_prompts_of_text_equal_the_reference(family: Family) -> None:
    """In a batch of mixed lengths; nothing of images is there."""
    if family.loaded.checkpoint.family.text_only:
        pytest.skip("refused, as another test says")
    prompts = prompts_of_text(family)
    for row, prompt in zip(captured(family, prompts, share_prefix=True), prompts, strict=True):
        states, inputs = block_outputs(family, prompt)
        for layer in LAYERS:
            assert_near(family, row.query_token[layer], states[layer])
        assert row.vision_only is row.vision_encoder is None and not row.vision_token
        assert (row.vision_index, row.vision_id) == (-1, -1)
        assert row.prompt_tokens == row.query_index + 1 == inputs["input_ids"].shape[1]
        assert_answer(family, row, prompt)


def block_outputs(family: Family, prompt: Prompt) -> tuple[list[np.ndarray], dict[str, torch.Tensor]]:
    """Of each block at the last token, by plain hooks; the tokens are those of transformers' own path."""
    loaded, states = family.loaded, list[np.ndarray]()
    processor = loaded.checkpoint.processor
    inputs = single_inputs(loaded, prompt, family.tiny)
    turn = {"role": "user", "content": [{"type": "text", "text": prompt.sample.question}]}
    told = processor.apply_chat_template(
        [turn], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert torch.equal(told["input_ids"], inputs["input_ids"])
    decoder, states_of = loaded.model.get_decoder(), family.tiny.block_states or (lambda output: output)
    hooks = [
        block.register_forward_hook(lambda _m, _a, output: states.append(states_of(output)[0, -1].numpy().copy()))
        for block in getattr(decoder, "model", decoder).layers
    ]
    try:
        with torch.no_grad():
            loaded.model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return states, inputs


def test_inputs_of_two_images_are_those_of_the_chat_template(family: Family) -> None:
    """transformers' own tokenised path, on pictures whose sizes need no change."""
    checkpoint = family.loaded.checkpoint
    if checkpoint.family.several_images or not family.tiny.tokenized_template:
        pytest.skip("refused, or its processor refuses pictures as that path passes them")
    patch = getattr(checkpoint.processor.image_processor, "patch_size", 14)
    factor = 2 * (patch["height"] if isinstance(patch, dict) else patch)
    pictures = [picture((3 * factor, 4 * factor), 1), picture((4 * factor, 3 * factor), 2)]
    made = Prompter(checkpoint=checkpoint).prompt(
        Sample(question_id="q", image_id="", question=QUESTIONS[0], answer="", images=("1", "2")), *pictures
    )
    images = [{"type": "image", "image": shown.pixels} for shown in pictures]
    expected = checkpoint.processor.apply_chat_template(
        [{"role": "user", "content": [*images, {"type": "text", "text": QUESTIONS[0]}]}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    for name, tensor in single_inputs(family.loaded, made, family.tiny).items():
        if name not in checkpoint.family.unused_outputs:
            given = torch.as_tensor(tensor)
            assert torch.equal(given, torch.as_tensor(expected[name]).to(given.dtype)), name


def test_what_a_family_refuses_is_named_with_the_reason(family: Family) -> None:
    checkpoint, row = family.loaded.checkpoint, family.loaded.checkpoint.family
    prompter, several = (
        Prompter(checkpoint=checkpoint),
        Sample(question_id="q7", image_id="", question="Why?", answer="", images=("1", "2")),
    )
    for sample, reason in ((several, row.several_images), (replace(several, images=()), row.text_only)):
        if not reason:
            prompter.check([sample])
            continue
        pictures = [picture((64, 64), int(file)) for file in sample.files]
        with pytest.raises(PromptError, match=f"'{checkpoint.model_type}' takes .*: {reason}"):
            prompter.prompt(sample, *pictures)
        with pytest.raises(InputError, match=f"'q7' shows .* but '{checkpoint.model_type}' takes .*: {reason}"):
            prompter.check([replace(sample, images=("1",)), sample])


def test_without_layers_the_answers_are_the_same(family: Family) -> None:
    """And no hook is on a block."""
    loaded = family.loaded
    prompts = [prompts_on_images(family) if not loaded.checkpoint.family.several_images else []]
    prompts += [prompts_of_text(family) if not loaded.checkpoint.family.text_only else []]
    blocks = loaded.checkpoint.family.blocks(loaded.model)
    hooked: list[int] = []
    watch = blocks[0].register_forward_pre_hook(lambda block, _args: hooked.append(len(block._forward_hooks)))
    try:
        for batch in filter(None, prompts):
            told = captured(family, batch, share_prefix=True)
            others = hooked[0] - 1  # transformers' own
            hooked.clear()
            silent = Engine(loaded, CaptureSpec((), NEW_TOKENS), share_prefix=True).run(batch)
            assert set(hooked) == {others}
            hooked.clear()
            for row, other in zip(silent, told, strict=True):
                assert not row.query_token and not row.vision_token
                for name in ("answer", "answer_tokens", "answer_logprob", "first_token_logprob", "first_token_entropy"):
                    assert getattr(row, name) == getattr(other, name)
    finally:
        watch.remove()


def test_a_family_that_was_looked_up_is_proved_on_prompts_of_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = tiny_model("llava")
    preparer = Preparer(Prompter(checkpoint=loaded.checkpoint), tmp_path)
    samples = [
        [Sample(question_id=str(k), image_id=f"note {k}", question=text, answer="", images=())]
        for k, text in enumerate(QUESTIONS)
    ]
    prove_looked_up(loaded, LAYERS, preparer, samples)
    monkeypatch.setattr(prefill, "plain_positions", lambda model, inputs: stretched(plain_positions(model, inputs)))
    with pytest.raises(InputError, match="states differ from those of a plain forward pass"):
        prove_looked_up(loaded, LAYERS, preparer, samples)


def stretched(positions: RowPositions) -> RowPositions:
    return replace(positions, ids=positions.ids * 2)


def test_a_batch_shows_images_or_none() -> None:
    family = Family(TINY["qwen2_vl"], tiny_model("qwen2_vl"), [])
    with pytest.raises(ValueError, match="with and without images"):
        captured(family, [*prompts_on_images(family), *prompts_of_text(family)], share_prefix=False)
