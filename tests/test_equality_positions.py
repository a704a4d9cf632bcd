"""The contract of every family for the further positions: the question's end and the mean over the image's tokens."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from family_proof import LAYERS, SIZES, Family, assert_close, reference_of, share_prefix
from PIL import Image
from tiny_models import TINY, tiny_model

from halp_probe.engine.engine import Engine
from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prompting import Prompt, Prompter
from halp_probe.errors import InputError
from halp_probe.models.families.defaults import RECURRENT
from halp_probe.models.loading import LoadedModel
from halp_probe.records import POSITIONS, Captured, CaptureSpec, Sample

__all__ = ["share_prefix"]  # a fixture

pytestmark = pytest.mark.slow

SYSTEM = "Name the colour"
ASKED = (  # on image 0 two prompts are the same, on image 1 one begins with the other, and is the system message
    (0, "Is there a red circle?"),
    (1, SYSTEM),
    (2, "What is it?  \n"),
    (0, "这是什么颜色"),
    (3, "assistant"),
    (1, f"{SYSTEM} of the circle, please"),
    (2, "Où est le cafe\u0301 🦜"),
    (0, "Is there a red circle?"),
)


def prompter_of(loaded: LoadedModel) -> Prompter:
    """With a system message that a question repeats, where the template takes one."""
    try:
        return Prompter(checkpoint=loaded.checkpoint, system=f"{SYSTEM}.", question_end=True)
    except InputError:
        return Prompter(checkpoint=loaded.checkpoint, question_end=True)


@pytest.fixture(scope="module", params=TINY)
def family(request: pytest.FixtureRequest) -> Family:
    loaded = tiny_model(request.param)
    prompter, rng = prompter_of(loaded), np.random.default_rng(3)
    pictures = [
        Image.fromarray(rng.integers(0, 255, size=(height // 8, width // 8, 3), dtype=np.uint8)).resize((width, height))
        for width, height in SIZES
    ]
    prompts = [
        prompter.prompt(
            Sample(question_id=str(k), image_id=f"{image}.png", question=question, answer=""),
            LoadedImage(pictures[image], f"content {image}"),
        )
        for k, (image, question) in enumerate(ASKED)
    ]
    return Family(TINY[request.param], loaded, prompts)


def positions_of(loaded: LoadedModel) -> tuple[str, ...]:
    crossing = loaded.checkpoint.family.cross_attention
    return tuple(name for name in POSITIONS if name != "image-mean" or not crossing)


def capture(
    family: Family, *, share_prefix: bool, padding_side: str = "left", positions: tuple[str, ...] = ()
) -> list[Captured]:
    """All rows of one batch, with every position that the family has unless some are named."""
    wanted = CaptureSpec(LAYERS, 0, positions=positions or positions_of(family.loaded))
    return Engine(family.loaded, wanted, share_prefix=share_prefix, padding_side=padding_side).run(family.prompts)


def assert_near(family: Family, vector: np.ndarray, reference: np.ndarray) -> None:
    """As `assert_close`, but for recurrent layers: padding moves the bounds of their chunks, and so the rounding."""
    if family.loaded.checkpoint.family.unshared != RECURRENT:
        assert_close(vector, reference)
    assert np.abs(vector - reference).max() <= 1e-4 * np.abs(reference).max()


def squeezed(text: str) -> str:
    return "".join(unicodedata.normalize("NFC", text).split())


def question_end(family: Family, prompt: Prompt) -> int:
    """The first token behind the image with which the decoded tokens hold the whole question."""
    decode = family.loaded.checkpoint.processor.tokenizer.decode
    start = prompt.positions.vision_index + 1
    wanted = squeezed(prompt.sample.question)
    return next(k for k in range(start, len(prompt)) if wanted in squeezed(decode(prompt.input_ids[start : k + 1])))


def test_the_question_ends_where_the_decoded_tokens_hold_all_of_it(family: Family) -> None:
    for prompt in family.prompts:
        assert prompt.positions.question_end_index == question_end(family, prompt) <= prompt.positions.query_index
        assert prompt.positions.question_end_id == prompt.input_ids[prompt.positions.question_end_index]


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_further_positions_equal_the_reference(family: Family, share_prefix: bool, padding_side: str) -> None:
    row_of_family = family.loaded.checkpoint.family
    if padding_side == "right" and not row_of_family.right_padding:
        pytest.skip("padding behind a prompt shows in this family's states")
    rows = capture(family, share_prefix=share_prefix, padding_side=padding_side)
    for row, prompt in zip(rows, family.prompts, strict=True):
        reference = reference_of(family, prompt)
        at = question_end(family, prompt)
        assert (row.question_end_index, row.question_end_id) == (at, prompt.input_ids[at])
        for layer in LAYERS:
            assert_near(family, row.question_end[layer], reference.state(layer, at))
            assert_near(family, row.vision_token[layer], reference.state(layer, reference.vision_index))
            assert_near(family, row.query_token[layer], reference.state(layer, reference.query_index))
            if not row_of_family.cross_attention:
                assert_near(family, row.image_mean[layer], reference.image_mean(layer))


def test_further_positions_of_a_recurrent_family_alone_equal_the_reference(family: Family) -> None:
    if family.loaded.checkpoint.family.unshared != RECURRENT:
        pytest.skip("batches of this family are held to the same bound")
    engine = Engine(family.loaded, CaptureSpec(LAYERS, 0, positions=tuple(POSITIONS)))
    for prompt in family.prompts:
        (row,), reference = engine.run([prompt]), reference_of(family, prompt)
        for layer in LAYERS:
            assert_close(row.question_end[layer], reference.state(layer, question_end(family, prompt)))
            assert_close(row.image_mean[layer], reference.image_mean(layer))


def test_further_positions_change_nothing_of_the_usual_ones(family: Family, share_prefix: bool) -> None:
    usual = capture(family, share_prefix=share_prefix, positions=("vision", "query"))
    assert not any(row.question_end or row.image_mean for row in usual)
    for row, other in zip(capture(family, share_prefix=share_prefix), usual, strict=True):
        for layer in LAYERS:
            assert_close(row.vision_token[layer], other.vision_token[layer])
            assert_close(row.query_token[layer], other.query_token[layer])
        assert row.first_token_entropy == pytest.approx(other.first_token_entropy, rel=1e-4, abs=1e-5)


def test_positions_that_are_not_asked_for_are_left_out(family: Family) -> None:
    (row, *_) = capture(family, share_prefix=True, positions=("question-end",))
    assert row.question_end.keys() == set(LAYERS) and not row.vision_token and not row.query_token


def test_an_image_that_is_no_sequence_of_tokens_has_no_mean(family: Family) -> None:
    if not family.loaded.checkpoint.family.cross_attention:
        pytest.skip("its image is a sequence of tokens")
    with pytest.raises(InputError, match="image-mean: in 'mllama' the image is seen by cross-attention"):
        Engine(family.loaded, CaptureSpec(LAYERS, positions=("image-mean",)))
