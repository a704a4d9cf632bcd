"""The contract of every family: what is captured in batches equals an independent reference, one sample at a time.

Of states, means and confidence; `test_equality_answers.py` has that of answers, and of how often what is computed.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from family_proof import (
    LAYERS,
    QUESTIONS,
    Family,
    assert_close,
    assert_same,
    family_of_prompts,
    feeding,
    reference_of,
    rows_of,
    share_prefix,
    single_inputs,
)
from PIL import Image
from tiny_models import TINY

from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prompting import Prompter
from halp_probe.models.families.defaults import PREFIX_LM
from halp_probe.models.loading import LoadedModel
from halp_probe.records import Sample

__all__ = ["feeding", "share_prefix"]  # fixtures

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=TINY)
def family(request: pytest.FixtureRequest) -> Family:
    return family_of_prompts(request.param)


@pytest.fixture(scope="module")
def half(family: Family) -> Family:
    halved = LoadedModel(checkpoint=family.loaded.checkpoint, model=copy.deepcopy(family.loaded.model).bfloat16())
    return replace(family, loaded=halved)


def test_batch_of_eight_equals_batch_of_one(family: Family, share_prefix: bool) -> None:
    batched = rows_of(family, 8, share_prefix=share_prefix)
    for single, row in zip(rows_of(family, 1, share_prefix=False), batched, strict=True):
        assert_same(row, single)


def test_right_padding_equals_left_padding(family: Family, share_prefix: bool) -> None:
    if not family.loaded.checkpoint.family.right_padding:
        pytest.skip("padding behind a prompt shows in this family's answers: it stands in front alone")
    right = rows_of(family, 8, share_prefix=share_prefix, padding_side="right")
    for row, left in zip(right, rows_of(family, 8, share_prefix=share_prefix), strict=True):
        assert_same(row, left)


def test_order_in_the_batch_does_not_matter(family: Family, share_prefix: bool) -> None:
    backwards = rows_of(replace(family, prompts=family.prompts[::-1]), 8, share_prefix=share_prefix)
    for forward, backward in zip(rows_of(family, 8, share_prefix=share_prefix), reversed(backwards), strict=True):
        assert_same(backward, forward)


def test_bfloat16_states_point_as_those_of_one_sample_alone(half: Family, share_prefix: bool) -> None:
    alone = rows_of(half, 1, share_prefix=False, new_tokens=0)
    for row, single in zip(rows_of(half, 8, share_prefix=share_prefix, new_tokens=0), alone, strict=True):
        for layer in LAYERS:
            for a, b in (
                (row.vision_token[layer], single.vision_token[layer]),
                (row.query_token[layer], single.query_token[layer]),
            ):
                assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) >= 0.999


@pytest.mark.usefixtures("feeding")
def test_captured_equals_the_reference(family: Family, share_prefix: bool) -> None:
    for row, prompt in zip(rows_of(family, 8, share_prefix=share_prefix), family.prompts, strict=True):
        reference = reference_of(family, prompt)
        assert row.vision_index == reference.vision_index
        assert row.query_index == reference.query_index == row.prompt_tokens - 1
        assert row.vision_id == family.loaded.checkpoint.image_token_id
        for layer in LAYERS:
            assert_close(row.vision_token[layer], reference.state(layer, reference.vision_index))
            assert_close(row.query_token[layer], reference.state(layer, reference.query_index))
        assert_close(row.vision_only, reference.vision_only)
        assert_close(row.vision_encoder, reference.vision_encoder)
        assert row.first_token_logprob == pytest.approx(float(reference.logprobs.max()), rel=1e-4, abs=1e-5)
        entropy = torch.distributions.Categorical(logits=reference.logprobs).entropy()
        assert row.first_token_entropy == pytest.approx(float(entropy), rel=1e-4)


def test_image_tokens_see_the_question_in_a_prefix_lm_alone(family: Family) -> None:
    rows = rows_of(family, 8, share_prefix=False)
    for one, other in ((rows[0], rows[3]), (rows[1], rows[5]), (rows[2], rows[6])):  # two questions on one picture
        if family.loaded.checkpoint.family.unshared == PREFIX_LM:
            assert np.abs(one.vision_token[5] - other.vision_token[5]).max() > 0.01
        else:
            assert_close(one.vision_token[5], other.vision_token[5])
        assert_close(one.vision_only, other.vision_only)


def test_prompt_inputs_are_those_of_the_chat_template(family: Family) -> None:
    """transformers' own tokenised path, on pictures whose size needs no change."""
    if not family.tiny.tokenized_template:
        pytest.skip("this family's processor refuses pictures as transformers' own tokenised path passes them")
    checkpoint = family.loaded.checkpoint
    patch = getattr(checkpoint.processor.image_processor, "patch_size", 14)
    factor = 2 * (patch["height"] if isinstance(patch, dict) else patch)
    picture = Image.new("RGB", (3 * factor, 4 * factor), (10, 200, 90))
    made = Prompter(checkpoint=checkpoint).prompt(
        Sample(question_id="q", image_id="i", question=QUESTIONS[0], answer=""), LoadedImage(picture, "")
    )
    content = [{"type": "image", "image": picture}, {"type": "text", "text": QUESTIONS[0]}]
    expected = checkpoint.processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    inputs = single_inputs(family.loaded, made, family.tiny)
    unused = set(checkpoint.family.unused_outputs)
    assert inputs.keys() - unused == expected.keys() - unused
    for name in inputs.keys() & expected.keys():
        given = torch.as_tensor(inputs[name])
        assert torch.equal(given, torch.as_tensor(expected[name]).to(given.dtype)), name
