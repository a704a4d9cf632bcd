"""The contract of every family: what is captured in batches equals an independent reference, one sample at a time.

The reference uses the processor and the model directly: `output_hidden_states`, plain module calls, `generate`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import takewhile
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny.parts import Tiny
from tiny_models import TINY, tiny_model

from halp_probe.engine.engine import Engine
from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prompting import Prompt, Prompter
from halp_probe.models import image_entry
from halp_probe.models.families.defaults import PREFIX_LM
from halp_probe.models.loading import LoadedModel
from halp_probe.records import Captured, CaptureSpec, Sample

pytestmark = pytest.mark.slow

LAYERS = (0, 1, 3, 4, 5)
NEW_TOKENS = 6
QUESTIONS = (
    "Is there a red circle?",
    "What colour is the very small square that stands left of the big blue triangle?",
    "How many?",
    "What shape is the orange one, if there is one at all?",
)
SIZES = ((112, 112), (70, 130), (200, 90), (64, 64))  # width, height: mixed in every batch


@dataclass(frozen=True)
class Family:
    tiny: Tiny
    loaded: LoadedModel
    prompts: list[Prompt]  # on four images three, two, two and one, in mixed order


@pytest.fixture(scope="module", params=TINY)
def family(request: pytest.FixtureRequest) -> Family:
    loaded = tiny_model(request.param)
    prompter = Prompter(checkpoint=loaded.checkpoint)
    rng = np.random.default_rng(3)
    pictures = [
        Image.fromarray(rng.integers(0, 255, size=(height // 8, width // 8, 3), dtype=np.uint8)).resize((width, height))
        for width, height in SIZES
    ]
    prompts = []
    for k, image in enumerate((0, 1, 2, 0, 3, 1, 2, 0)):
        question = QUESTIONS[(k * 3) % 4] + " Say it." * (k // 4)  # on image 1 one question begins with the other
        sample = Sample(question_id=str(k), image_id=f"{image}.png", question=question, answer="")
        prompts.append(prompter.prompt(sample, LoadedImage(pictures[image], f"content {image}")))
    return Family(TINY[request.param], loaded, prompts)


@pytest.fixture(params=["passed on", "handed out"])
def feeding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, family: Family) -> None:
    """Both ways in which the image's features reach the decoder; the second is that of transformers 5.17."""
    if request.param == "handed out":
        if not family.tiny.handed_out:
            pytest.skip("this family's images do not enter by get_image_features: there is one way to feed them")
        monkeypatch.setattr(image_entry, "takes_features", lambda model: False)


def run(family: Family, batch: int, *, share_prefix: bool, padding_side: str = "left") -> list[Captured]:
    spec = CaptureSpec(LAYERS, NEW_TOKENS)
    engine = Engine(family.loaded, spec, share_prefix=share_prefix, padding_side=padding_side)
    starts = range(0, len(family.prompts), batch)
    return [row for start in starts for row in engine.run(family.prompts[start : start + batch])]


def assert_same(left: Captured, right: Captured) -> None:
    for layer in LAYERS:
        assert_close(left.vision_token[layer], right.vision_token[layer])
        assert_close(left.query_token[layer], right.query_token[layer])
    assert_close(left.vision_only, right.vision_only)
    assert_close(left.vision_encoder, right.vision_encoder)
    assert left.first_token_logprob == pytest.approx(right.first_token_logprob, rel=1e-4, abs=1e-5)
    assert left.first_token_entropy == pytest.approx(right.first_token_entropy, rel=1e-4, abs=1e-5)
    assert left.answer_logprob == pytest.approx(right.answer_logprob, rel=1e-4, abs=1e-4)
    assert (left.answer, left.answer_tokens) == (right.answer, right.answer_tokens)


def assert_close(vector: np.ndarray, reference: np.ndarray) -> None:
    """To 1e-5 of the reference's largest value."""
    assert vector.dtype == np.float32 and vector.shape == reference.shape
    assert np.abs(vector - reference).max() <= 1e-5 * np.abs(reference).max()


@pytest.fixture(params=[False, True], ids=["whole", "shared"])
def share_prefix(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_batch_of_eight_equals_batch_of_one(family: Family, share_prefix: bool) -> None:
    batched = run(family, 8, share_prefix=share_prefix)
    for single, row in zip(run(family, 1, share_prefix=False), batched, strict=True):
        assert_same(row, single)


def test_right_padding_equals_left_padding(family: Family, share_prefix: bool) -> None:
    if not family.loaded.checkpoint.family.right_padding:
        pytest.skip("padding behind a prompt shows in this family's answers: it stands in front alone")
    right = run(family, 8, share_prefix=share_prefix, padding_side="right")
    for row, left in zip(right, run(family, 8, share_prefix=share_prefix), strict=True):
        assert_same(row, left)


def test_order_in_the_batch_does_not_matter(family: Family, share_prefix: bool) -> None:
    backwards = run(replace(family, prompts=family.prompts[::-1]), 8, share_prefix=share_prefix)
    for forward, backward in zip(run(family, 8, share_prefix=share_prefix), reversed(backwards), strict=True):
        assert_same(backward, forward)


def test_bfloat16_states_point_as_those_of_one_sample_alone(family: Family, share_prefix: bool) -> None:
    halved = LoadedModel(checkpoint=family.loaded.checkpoint, model=copy.deepcopy(family.loaded.model).bfloat16())
    half = replace(family, loaded=halved)
    alone = run(half, 1, share_prefix=False)
    for row, single in zip(run(half, 8, share_prefix=share_prefix), alone, strict=True):
        for layer in LAYERS:
            for a, b in (
                (row.vision_token[layer], single.vision_token[layer]),
                (row.query_token[layer], single.query_token[layer]),
            ):
                assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) >= 0.999


@pytest.mark.usefixtures("feeding")
def test_captured_equals_the_reference(family: Family, share_prefix: bool) -> None:
    for row, prompt in zip(run(family, 8, share_prefix=share_prefix), family.prompts, strict=True):
        reference = Reference(family, prompt)
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
    rows = run(family, 8, share_prefix=False)
    for one, other in ((rows[0], rows[3]), (rows[1], rows[5]), (rows[2], rows[6])):  # two questions on one picture
        if family.loaded.checkpoint.family.unshared == PREFIX_LM:
            assert np.abs(one.vision_token[5] - other.vision_token[5]).max() > 0.01
        else:
            assert_close(one.vision_token[5], other.vision_token[5])
        assert_close(one.vision_only, other.vision_only)


@pytest.mark.usefixtures("feeding")
@pytest.mark.parametrize("penalty", [1.0, 1.4])
def test_answers_equal_generate(family: Family, penalty: float, share_prefix: bool) -> None:
    model = family.loaded.model
    model.generation_config.repetition_penalty = penalty
    try:
        rows = run(family, 8, share_prefix=share_prefix)
        for row, prompt in zip(rows, family.prompts, strict=True):
            assert_answer(family, row, prompt)
    finally:
        model.generation_config.repetition_penalty = None


def test_answers_hold_no_suppressed_token(family: Family, share_prefix: bool) -> None:
    """Gemma 4's generation_config names some; here those that the answers would begin with."""
    config, few = family.loaded.model.generation_config, replace(family, prompts=family.prompts[:4])
    config.suppress_tokens = sorted({int(generated(family, prompt)[0][0]) for prompt in few.prompts})
    try:
        for row, prompt in zip(run(few, 4, share_prefix=share_prefix), few.prompts, strict=True):
            assert_answer(family, row, prompt)
    finally:
        config.suppress_tokens = None


def test_positions_equal_those_of_generate(family: Family) -> None:
    """At the prompt and at every answer token: a shift of them all would show in no state, attention is rotary."""
    model, engine = family.loaded.model, Engine(family.loaded, CaptureSpec(LAYERS, NEW_TOKENS))
    seen: list[torch.Tensor] = []
    hook = model.get_decoder().register_forward_pre_hook(
        lambda _m, _args, kwargs: seen.append(kwargs["position_ids"].clone()), with_kwargs=True
    )
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


@pytest.mark.parametrize("penalty", [1.0, 1.4])
def test_answers_end_at_end_tokens_while_others_go_on(family: Family, share_prefix: bool, penalty: float) -> None:
    """Tokens of several answers are the end tokens, so rows leave the batch at several steps."""
    model = family.loaded.model
    config = model.generation_config
    before, config.repetition_penalty = config.eos_token_id, penalty
    try:
        long = [
            model.generate(
                **single_inputs(family.loaded, prompt, family.tiny), do_sample=False, max_new_tokens=NEW_TOKENS
            )
            for prompt in family.prompts
        ]
        config.eos_token_id = [int(long[0][0, -5]), int(long[4][0, -3])]
        short = run(family, 8, share_prefix=share_prefix)
        assert len({row.answer_tokens for row in short}) > 1
        for row, prompt in zip(short, family.prompts, strict=True):
            assert_answer(family, row, prompt)
    finally:
        config.eos_token_id, config.repetition_penalty = before, None


def test_confidence_does_not_depend_on_answering(family: Family, share_prefix: bool) -> None:
    """Not even with a repetition penalty, which may choose another first token than the likeliest."""
    model = family.loaded.model
    model.generation_config.repetition_penalty = 2.0
    try:
        answered = run(family, 8, share_prefix=share_prefix)
    finally:
        model.generation_config.repetition_penalty = None
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
        run(family, 4, share_prefix=share_prefix)
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
        other = table.features(model, {**images, "pixel_values": -images["pixel_values"]})
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
    for name, tensor in inputs.items():
        assert torch.equal(tensor, expected[name].to(tensor.dtype)), name


def test_the_vision_tower_and_the_prefix_run_once_an_image(family: Family) -> None:
    """Counted at the modules: features out of the projector, tokens into the first block."""
    table, model = family.loaded.checkpoint.family, family.loaded.model
    batches: list[tuple[int, ...]] = []
    hook = table.blocks(model)[0].register_forward_pre_hook(lambda _m, args: batches.append(args[0].shape[-3:-1]))
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
    heads = {  # on images 0, 1 and 2; image 3 has one question
        rows: len(list(takewhile(lambda column: len(set(column)) == 1, zip(*(ids[row] for row in rows), strict=False))))
        for rows in ((0, 3, 7), (1, 5), (2, 6))
    }
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
    run(family, 8, share_prefix=True)
    run(family, 8, share_prefix=False)
    assert count() == before


def generated(family: Family, prompt: Prompt) -> tuple[torch.Tensor, float]:
    """What `generate` answers this prompt alone, and the sum of its tokens' log-probabilities."""
    alone = family.loaded.model.generate(
        **single_inputs(family.loaded, prompt, family.tiny),
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        return_dict_in_generate=True,
        output_logits=True,
    )
    new = alone.sequences[0, len(prompt) :]
    steps = [step[0].log_softmax(-1)[token] for step, token in zip(alone.logits, new, strict=True)]
    return new, float(sum(steps))


def assert_answer(family: Family, row: Captured, prompt: Prompt) -> None:
    new, logprob = generated(family, prompt)
    assert (row.answer, row.answer_tokens) == (decoded(family, new), len(new))
    assert row.answer_logprob == pytest.approx(logprob, rel=1e-4, abs=1e-4)


def decoded(family: Family, ids: torch.Tensor) -> str:
    text: str = family.loaded.checkpoint.processor.tokenizer.decode(ids, skip_special_tokens=True)
    return text.strip()


def single_inputs(loaded: LoadedModel, prompt: Prompt, tiny: Tiny | None = None) -> dict[str, Any]:
    """The one-sample inputs as a plain user of transformers would pass them."""
    ids = torch.from_numpy(prompt.input_ids)[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **shown_images(loaded, prompt)}
    types = loaded.checkpoint.family.token_types
    if types is not None and prompt.token_types is not None:
        inputs[types.name] = torch.from_numpy(prompt.token_types)[None]
    return inputs if tiny is None or tiny.inputs is None else {**inputs, **tiny.inputs(loaded, prompt)}


def shown_images(loaded: LoadedModel, prompt: Prompt) -> dict[str, torch.Tensor]:
    """The image inputs in the model's dtype: Llama 4's processor makes bfloat16 of its pixels."""
    dtype = loaded.model.dtype
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in prompt.images.items()}


class Reference:
    """One sample, no padding, the model's own forward; positions by a search of its own."""

    def __init__(self, family: Family, prompt: Prompt) -> None:
        loaded, self._tiny = family.loaded, family.tiny
        ids = prompt.input_ids.tolist()
        self.vision_index = len(ids) - 1 - ids[::-1].index(loaded.checkpoint.image_token_id)
        self.query_index = len(ids) - 1
        self._block_outputs: list[torch.Tensor] = []
        decoder = loaded.model.get_decoder()
        blocks = getattr(decoder, "model", decoder).layers  # Llama 4's decoder is a whole language model
        states_of = self._tiny.block_states or (lambda output: output)
        hooks = [
            block.register_forward_hook(lambda _m, _a, output: self._block_outputs.append(states_of(output).clone()))
            for block in blocks
        ]
        embedded: list[torch.Tensor] = []
        hooks.append(blocks[0].register_forward_pre_hook(lambda _m, args: embedded.append(args[0].clone())))
        with torch.no_grad():
            outputs = loaded.model(**single_inputs(family.loaded, prompt, family.tiny), output_hidden_states=True)
            patches = self._tiny.vision_encoder(loaded, shown_images(loaded, prompt))
            self.vision_encoder = patches.mean(0).numpy()
            if self._tiny.vision_only is None:
                tokens = embedded[0][0, torch.tensor(ids) == loaded.checkpoint.image_token_id]
            else:
                tokens = self._tiny.vision_only(loaded, shown_images(loaded, prompt))
            self.vision_only = tokens.mean(0).numpy()
        for hook in hooks:
            hook.remove()
        assert patches.ndim == tokens.ndim == 2
        self._hidden_states = outputs.hidden_states
        self.logprobs = outputs.logits[0, -1].log_softmax(-1)

    def state(self, layer: int, position: int) -> np.ndarray:
        """`output_hidden_states`, but not of the last block (post-norm), nor where DeepStack has added to it."""
        added_after = layer < self._tiny.added_after and position == self.vision_index
        if layer == len(self._block_outputs) - 1 or added_after or not self._tiny.hidden_states:
            return self._block_outputs[layer][0, position].numpy()
        return self._hidden_states[layer + 1][0, position].numpy()
