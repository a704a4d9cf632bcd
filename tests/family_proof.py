"""Parts of the proof of every family: its prompts, what the engine captures of them, and the reference.

The reference uses the processor and the model directly: `output_hidden_states`, plain module calls, `generate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

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
from halp_probe.models.loading import LoadedModel
from halp_probe.records import Captured, CaptureSpec, Sample

LAYERS = (0, 1, 3, 4, 5)
NEW_TOKENS = 6
QUESTIONS = (
    "Is there a red circle?",
    "What colour is the very small square that stands left of the big blue triangle?",
    "How many?",
    "What shape is the orange one, if there is one at all?",
)
SIZES = ((112, 112), (70, 130), (200, 90), (64, 64))  # width, height: mixed in every batch

Result = TypeVar("Result")


@dataclass(frozen=True)
class Family:
    tiny: Tiny
    loaded: LoadedModel
    prompts: list[Prompt]  # on four images three, two, two and one, in mixed order
    _computed: dict[tuple[Any, ...], tuple[Any, Any]] = field(default_factory=dict)

    def once(self, compute: Callable[[], Result], prompts: list[Prompt], *how: Any) -> Result:
        """Return what `compute` gives for these prompts, computed once for the same model, settings and `how`."""
        model = self.loaded.model
        settings = model.generation_config.to_json_string(use_diff=False)
        objects = (self.loaded, *prompts)  # kept with the result, so that no other object gets the id of one
        key = (*how, *map(id, objects), model.dtype, settings)
        if key not in self._computed:
            self._computed[key] = objects, compute()
        result: Result = self._computed[key][1]
        return result


def family_of_prompts(name: str) -> Family:
    """A tiny model and the prompts with which it is proved."""
    loaded = tiny_model(name)
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
    return Family(TINY[name], loaded, prompts)


def run(
    family: Family, batch: int, *, share_prefix: bool, padding_side: str = "left", new_tokens: int = NEW_TOKENS
) -> list[Captured]:
    spec = CaptureSpec(LAYERS, new_tokens)
    engine = Engine(family.loaded, spec, share_prefix=share_prefix, padding_side=padding_side)
    starts = range(0, len(family.prompts), batch)
    return [row for start in starts for row in engine.run(family.prompts[start : start + batch])]


@pytest.fixture(params=["passed on", "handed out"])
def feeding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, family: Family) -> None:
    """Both ways in which the image's features reach the decoder; the second is that of transformers 5.17."""
    if request.param == "handed out":
        if not family.tiny.handed_out:
            pytest.skip("this family's images do not enter by get_image_features: there is one way to feed them")
        monkeypatch.setattr(image_entry, "takes_features", lambda model: False)


@pytest.fixture(params=[False, True], ids=["whole", "shared"])
def share_prefix(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def rows_of(family: Family, batch: int, **how: Any) -> list[Captured]:
    """Return what `run` gives, computed once; the features' way to the decoder is one of the arguments."""
    passed_on = image_entry.takes_features(family.loaded.model)
    arguments = (batch, *sorted(how.items()), passed_on)
    return family.once(lambda: run(family, batch, **how), family.prompts, run, *arguments)


@contextmanager
def generation(family: Family, **settings: Any) -> Iterator[None]:
    """Inside the context, these settings of the model's `generation_config`."""
    config = family.loaded.model.generation_config
    before = {name: getattr(config, name) for name in settings}
    try:
        for name, value in settings.items():
            setattr(config, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


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


def generated(family: Family, prompt: Prompt) -> tuple[torch.Tensor, list[float]]:
    """Return what `generate` answers this prompt alone, and its tokens' log-probabilities; computed once."""
    return family.once(lambda: _generate(family, prompt), [prompt], generated)


def _generate(family: Family, prompt: Prompt) -> tuple[torch.Tensor, list[float]]:
    alone = family.loaded.model.generate(
        **single_inputs(family.loaded, prompt, family.tiny),
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        return_dict_in_generate=True,
        output_logits=True,
    )
    new = alone.sequences[0, len(prompt) :]
    return new, [float(step[0].log_softmax(-1)[token]) for step, token in zip(alone.logits, new, strict=True)]


def assert_answer(family: Family, row: Captured, prompt: Prompt) -> None:
    assert_is_answer(family, row, *generated(family, prompt))


def assert_is_answer(family: Family, row: Captured, ids: torch.Tensor, logprobs: list[float]) -> None:
    assert (row.answer, row.answer_tokens) == (decoded(family, ids), len(ids))
    assert row.answer_logprob == pytest.approx(sum(logprobs), rel=1e-4, abs=1e-4)


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
        self.image_indices = [k for k, token in enumerate(ids) if token == loaded.checkpoint.image_token_id]
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
        added_after = layer < self._tiny.added_after and position in self.image_indices
        if layer == len(self._block_outputs) - 1 or added_after or not self._tiny.hidden_states:
            return self._block_outputs[layer][0, position].numpy()
        return self._hidden_states[layer + 1][0, position].numpy()

    def image_mean(self, layer: int) -> np.ndarray:
        """The mean over the image's tokens, in float64."""
        return np.mean([self.state(layer, k) for k in self.image_indices], axis=0, dtype=np.float64).astype(np.float32)


def reference_of(family: Family, prompt: Prompt) -> Reference:
    """The reference of one of the family's prompts, computed once."""
    return family.once(lambda: Reference(family, prompt), [prompt], Reference)
