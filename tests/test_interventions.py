"""An intervention changes a layer by exactly what it says, in every pass that the engine makes, and leaves no trace.

The reference is the model called directly, with hooks written here: plain forward passes and `generate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from family_proof import single_inputs
from PIL import Image
from tiny.parts import WIDTH
from tiny_models import TINY, tiny_model

import halp_probe
from halp_probe.engine.capture import capture_outputs
from halp_probe.engine.engine import Engine
from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prompting import Prompt, Prompter
from halp_probe.errors import InputError
from halp_probe.interventions.steering import ablate_direction, steer
from halp_probe.models.loading import LoadedModel
from halp_probe.records import Captured, CaptureSpec, Sample

pytestmark = pytest.mark.slow

# One of each kind: mRoPE of several makes, DeepStack, plain positions, attention both ways, cross-attention, experts.
FAMILY_NAMES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava", "gemma3", "paligemma", "mllama", "glm4v")
LAYERS = (0, 2, 5)  # the first, where Qwen3-VL's DeepStack adds; one between; the last
NEW_TOKENS = 5
QUESTIONS = ("Is there a red circle?", "What colour is the very small square left of the triangle?", "How many?")
DIRECTION = np.random.default_rng(11).standard_normal(WIDTH)
GRID = 256.0  # states and directions on multiples of 1/256 add up without rounding


@dataclass(frozen=True)
class Setting:
    loaded: LoadedModel
    prompts: list[Prompt]  # three questions on one picture, two on another of another size

    def inputs(self, prompt: Prompt) -> dict[str, Any]:
        return single_inputs(self.loaded, prompt, TINY[self.loaded.checkpoint.name.removeprefix("tiny-")])

    @property
    def model(self) -> Any:
        return self.loaded.model

    @property
    def blocks(self) -> Any:
        return self.loaded.checkpoint.family.blocks(self.model)


@pytest.fixture(scope="module", params=FAMILY_NAMES)
def setting(request: pytest.FixtureRequest) -> Setting:
    return made(request.param)


@pytest.fixture(scope="module")
def qwen() -> Setting:
    return made("qwen2_5_vl")


def made(name: str) -> Setting:
    loaded = tiny_model(name)
    prompter = Prompter(checkpoint=loaded.checkpoint)
    rng = np.random.default_rng(3)
    pictures = [Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in ((112, 112), (70, 130))]
    asked = [(0, QUESTIONS[0]), (1, QUESTIONS[1]), (0, QUESTIONS[1]), (0, QUESTIONS[2]), (1, QUESTIONS[2])]
    prompts = [
        prompter.prompt(
            Sample(question_id=str(k), image_id=f"{image}.png", question=text, answer=""),
            LoadedImage(pictures[image], f"content {image}"),
        )
        for k, (image, text) in enumerate(asked)
    ]
    return Setting(loaded, prompts)


def outputs(setting: Setting, prompt: Prompt) -> list[torch.Tensor]:
    """What every block passes on in one forward pass, [T, D] each, and last the logits, [T, V]."""
    found: list[torch.Tensor] = []
    hooks = [b.register_forward_hook(lambda _m, _a, out: found.append(out[0].clone())) for b in setting.blocks]
    try:
        with torch.no_grad():
            logits = setting.model(**setting.inputs(prompt)).logits
    finally:
        for hook in hooks:
            hook.remove()
    return [*found, logits[0]]


def engine_rows(setting: Setting, *, share_prefix: bool, padding_side: str = "left") -> list[Captured]:
    spec = CaptureSpec(LAYERS, NEW_TOKENS)
    return Engine(setting.loaded, spec, share_prefix=share_prefix, padding_side=padding_side).run(setting.prompts)


def hooks_of(model: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@contextmanager
def hooked(block: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    hook = block.register_forward_hook(lambda _m, _a, out: change(out))
    try:
        yield
    finally:
        hook.remove()


@pytest.mark.parametrize("layer", LAYERS)
def test_steering_adds_the_direction_to_the_bit(setting: Setting, layer: int) -> None:
    """At every position of this layer; before it nothing changes, after it the model goes on from the sum."""
    prompt = setting.prompts[1]
    plain = outputs(setting, prompt)
    direction = torch.from_numpy(DIRECTION).float()
    for strength in (4.0, -4.0):
        with steer(setting.loaded, layer, direction, strength):
            steered = outputs(setting, prompt)
        assert torch.equal(steered[layer], plain[layer] + strength * direction)
        assert all(torch.equal(a, b) for a, b in zip(steered[:layer], plain[:layer], strict=True))
        assert not torch.allclose(steered[-1], plain[-1], atol=1e-2)
    assert all(torch.equal(a, b) for a, b in zip(outputs(setting, prompt), plain, strict=True))


def test_plus_and_minus_change_the_state_by_exactly_the_direction(
    qwen: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On states that add up without rounding the difference is the direction itself, and both together are nothing."""
    direction = np.round(DIRECTION * GRID) / GRID
    prompt, layer, shift = qwen.prompts[0], 2, torch.from_numpy(3 * direction).float()
    forward = qwen.blocks[layer].forward
    monkeypatch.setattr(qwen.blocks[layer], "forward", lambda *a, **k: torch.round(forward(*a, **k) * GRID) / GRID)
    plain = outputs(qwen, prompt)[layer]
    with steer(qwen.loaded, layer, direction, 3.0):
        assert torch.equal(outputs(qwen, prompt)[layer] - plain, shift.expand_as(plain))
        with steer(qwen.loaded, layer, direction, 3.0):
            assert torch.equal(outputs(qwen, prompt)[layer] - plain, 2 * shift.expand_as(plain))
        with steer(qwen.loaded, layer, direction, -3.0):
            assert torch.equal(outputs(qwen, prompt)[layer], plain)
    with steer(qwen.loaded, layer, direction, -3.0):
        assert torch.equal(outputs(qwen, prompt)[layer] - plain, -shift.expand_as(plain))
    assert torch.equal(outputs(qwen, prompt)[layer], plain)


@pytest.mark.parametrize("intervention", ["steer", "ablate"])
def test_hooks_are_gone_also_after_an_error(qwen: Setting, intervention: str) -> None:
    before, plain = hooks_of(qwen.model), outputs(qwen, qwen.prompts[0])
    with context(intervention, qwen, 2):
        assert hooks_of(qwen.model) == before + 1
    with pytest.raises(KeyError), context(intervention, qwen, 2):
        raise KeyError
    with (
        pytest.raises(RuntimeError, match="in a later block"),
        context(intervention, qwen, 2),
        hooked(qwen.blocks[3], failing),
    ):
        outputs(qwen, qwen.prompts[0])
    with pytest.raises(InputError), context(intervention, qwen, 6):
        pass
    assert hooks_of(qwen.model) == before
    assert all(torch.equal(a, b) for a, b in zip(outputs(qwen, qwen.prompts[0]), plain, strict=True))


def failing(_hidden: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("in a later block")


def context(name: str, setting: Setting, layer: int) -> AbstractContextManager[None]:
    if name == "steer":
        return steer(setting.loaded, layer, DIRECTION, 2.0)
    return ablate_direction(setting.loaded, layer, DIRECTION) if name == "ablate" else nullcontext()


@pytest.mark.parametrize("layer", LAYERS)
def test_ablating_takes_out_the_component_and_nothing_else(setting: Setting, layer: int) -> None:
    prompt = setting.prompts[0]
    plain = outputs(setting, prompt)[layer].double()
    unit = torch.from_numpy(DIRECTION / np.linalg.norm(DIRECTION))
    rest = plain - (plain @ unit)[:, None] * unit
    size = plain.norm(dim=1).max()
    for to in (0.0, 1.75):
        with ablate_direction(setting.loaded, layer, DIRECTION, to=to):
            once = outputs(setting, prompt)[layer].double()
            with ablate_direction(setting.loaded, layer, -5 * DIRECTION, to=-to):  # the same thing said otherwise
                twice = outputs(setting, prompt)[layer].double()
        assert (plain @ unit).abs().max() > 0.1 * size
        assert (once @ unit - to).abs().max() < 1e-6 * size
        assert (once - rest - to * unit).abs().max() < 1e-6 * size
        assert (twice - once).abs().max() < 1e-6 * size


def test_a_control_moves_every_state_as_far_in_another_direction(qwen: Setting) -> None:
    """By what taking out `direction` would move it, so its component along `direction` stays, when orthogonal."""
    unit = DIRECTION / np.linalg.norm(DIRECTION)
    other = np.roll(DIRECTION, 5)
    other -= (other @ unit) * unit
    plain = outputs(qwen, qwen.prompts[0])[2].double().numpy()
    with ablate_direction(qwen.loaded, 2, DIRECTION, to=0.5, along=3 * other):
        moved = outputs(qwen, qwen.prompts[0])[2].double().numpy()
    expected = np.outer(0.5 - plain @ unit, other / np.linalg.norm(other))
    assert np.abs(moved - plain - expected).max() < 1e-5
    assert np.abs(moved @ unit - plain @ unit).max() < 1e-5


def test_nested_interventions_act_from_the_inside(qwen: Setting) -> None:
    unit = DIRECTION / np.linalg.norm(DIRECTION)

    def component() -> torch.Tensor:
        return outputs(qwen, qwen.prompts[0])[2].double() @ torch.from_numpy(unit)

    with ablate_direction(qwen.loaded, 2, unit), steer(qwen.loaded, 2, unit, 3.0):
        assert component().abs().max() < 1e-4
    with steer(qwen.loaded, 2, unit, 3.0), ablate_direction(qwen.loaded, 2, unit):
        assert (component() - 3).abs().max() < 1e-4


def test_whoever_reads_the_block_reads_the_changed_state(qwen: Setting) -> None:
    """A capture entered before, and transformers' own hooks, which stay from the first `output_hidden_states` on."""
    inputs, layer = qwen.inputs(qwen.prompts[0]), 2
    rows, columns = torch.tensor([0, 0]), torch.tensor([1, len(qwen.prompts[0]) - 1])
    with torch.no_grad():
        plain = qwen.model(**inputs, output_hidden_states=True).hidden_states[layer + 1]
        with (
            capture_outputs({layer: qwen.blocks[layer]}, rows, columns) as states,
            steer(qwen.loaded, layer, DIRECTION, 2.0),
        ):
            steered = qwen.model(**inputs, output_hidden_states=True).hidden_states[layer + 1]
    expected = plain + 2 * torch.from_numpy(DIRECTION).float()
    assert torch.equal(steered, expected)
    assert torch.equal(states[layer], expected[rows, columns])


@pytest.mark.parametrize("intervention", ["steer", "ablate"])
@pytest.mark.parametrize("layer", LAYERS)
def test_the_engine_is_changed_as_the_model_is(setting: Setting, layer: int, intervention: str) -> None:
    """Shared prefixes or not, either padding: states of a plain forward pass and answers of `generate`, changed alike.

    The oracle is one sample at a time under a hook of its own.
    """
    unit = torch.from_numpy(DIRECTION / np.linalg.norm(DIRECTION)).float()

    def change(hidden: torch.Tensor) -> torch.Tensor:
        if intervention == "steer":
            return hidden + 2.0 * torch.from_numpy(DIRECTION).float()
        return hidden - torch.einsum("btd,d,e->bte", hidden, unit, unit)

    with hooked(setting.blocks[layer], change):
        expected = [reference(setting, prompt) for prompt in setting.prompts]
    plain = [reference(setting, prompt) for prompt in setting.prompts]
    assert [e[1] for e in expected] != [p[1] for p in plain]  # it matters
    with context(intervention, setting, layer):
        shared = engine_rows(setting, share_prefix=True)
        right = engine_rows(setting, share_prefix=True, padding_side="right")
        whole = engine_rows(setting, share_prefix=False)
    for rows in (shared, right, whole):
        for row, (states, tokens, text) in zip(rows, expected, strict=True):
            assert (row.answer, row.answer_tokens) == (text, len(tokens))
            for read in LAYERS:
                for vector, index in (
                    (row.query_token[read], row.query_index),
                    (row.vision_token[read], row.vision_index),
                ):
                    wanted = states[read][index].numpy()
                    assert np.abs(vector - wanted).max() <= 1e-5 * np.abs(states[read].numpy()).max()


def reference(setting: Setting, prompt: Prompt) -> tuple[list[torch.Tensor], list[int], str]:
    generated = setting.model.generate(**setting.inputs(prompt), do_sample=False, max_new_tokens=NEW_TOKENS)
    tokens = generated[0, len(prompt) :].tolist()
    text = setting.loaded.checkpoint.processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return outputs(setting, prompt), tokens, text


def test_it_acts_before_deepstack() -> None:
    """What DeepStack adds after the block is added to the changed state, and is the same as ever."""
    setting = made("qwen3_vl")
    entering: list[torch.Tensor] = []
    hook = setting.blocks[1].register_forward_pre_hook(lambda _m, args: entering.append(args[0][0].clone()))
    try:
        plain = outputs(setting, setting.prompts[0])[0]
        with steer(setting.loaded, 0, DIRECTION, 2.0):
            steered = outputs(setting, setting.prompts[0])[0]
    finally:
        hook.remove()
    added = entering[0] - plain
    assert added.abs().max() > 0.1 and torch.equal(steered, plain + 2 * torch.from_numpy(DIRECTION).float())
    assert torch.allclose(entering[1] - steered, added, atol=1e-5)


def test_bfloat16_is_rounded_once() -> None:
    setting = made("llava")
    setting.model.bfloat16()
    plain = outputs(setting, setting.prompts[0])[2]
    with steer(setting.loaded, 2, DIRECTION, 0.3):
        steered = outputs(setting, setting.prompts[0])[2]
    assert steered.dtype == torch.bfloat16
    assert torch.equal(steered, (plain.float() + torch.from_numpy(0.3 * DIRECTION).float()).bfloat16())
    with ablate_direction(setting.loaded, 2, DIRECTION):
        ablated = outputs(setting, setting.prompts[0])[2].double()
    component = ablated @ torch.from_numpy(DIRECTION / np.linalg.norm(DIRECTION))
    assert (component.abs() <= 2**-8 * plain.double().norm(dim=1)).all()


@pytest.mark.parametrize("kind", ["float64", "reversed", "tensor", "list"])
def test_directions_may_be_arrays_or_tensors(qwen: Setting, kind: str) -> None:
    given = {
        "float64": DIRECTION,
        "reversed": DIRECTION[::-1][::-1],
        "tensor": torch.from_numpy(DIRECTION).requires_grad_(),
        "list": DIRECTION.tolist(),
    }[kind]
    plain = outputs(qwen, qwen.prompts[0])[2]
    with halp_probe.steer(qwen.model, 2, given, 1.0):  # and a plain transformers model
        assert torch.equal(outputs(qwen, qwen.prompts[0])[2], plain + torch.from_numpy(DIRECTION).float())


def test_a_model_in_the_wrapper_of_peft(qwen: Setting) -> None:
    import peft

    setting = made("qwen2_5_vl")
    wrapped = peft.get_peft_model(setting.model, peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    plain = outputs(setting, setting.prompts[0])[2]
    assert not torch.equal(plain, outputs(qwen, qwen.prompts[0])[2])  # the adapter is at work
    with steer(wrapped, 2, DIRECTION, 1.0), torch.no_grad():
        steered = wrapped(**setting.inputs(setting.prompts[0]), output_hidden_states=True)
    assert torch.equal(steered.hidden_states[3][0], plain + torch.from_numpy(DIRECTION).float())


def test_blocks_of_several_streams_are_refused() -> None:
    """Gemma 3n's blocks work on four: adding to all of them would be another thing than adding to what is read."""
    loaded = tiny_model("gemma3n")
    for model in (loaded, loaded.model):
        with pytest.raises(InputError, match="gemma3n passes on more"), steer(model, 2, DIRECTION, 1.0):
            pass


def test_what_cannot_be_done_is_refused(qwen: Setting) -> None:
    broken = DIRECTION.copy()
    broken[3] = np.nan
    wrong: list[tuple[Any, str]] = [
        ((6, DIRECTION), "layer 6: the model has layers 0 to 5"),
        ((-1, DIRECTION), "layer -1"),
        ((2, DIRECTION[:-1]), r"shape \(31,\), the model's states \(32,\)"),
        ((2, DIRECTION[None]), r"shape \(1, 32\)"),
        ((2, broken), "1 of the direction's 32 numbers"),
    ]
    for arguments, message in wrong:
        with pytest.raises(InputError, match=message), steer(qwen.loaded, *arguments, 1.0):
            pass
        with pytest.raises(InputError, match=message), ablate_direction(qwen.loaded, *arguments):
            pass
    for strength, message in ((np.inf, "not finite"), (np.nan, "not finite"), (1e300, "beyond float32")):
        with pytest.raises(InputError, match=message), steer(qwen.loaded, 2, DIRECTION, strength):
            pass
    with pytest.raises(InputError, match="direction is zero"), ablate_direction(qwen.loaded, 2, 0 * DIRECTION):
        pass
    with pytest.raises(InputError, match="not finite"), ablate_direction(qwen.loaded, 2, DIRECTION, to=np.nan):
        pass
