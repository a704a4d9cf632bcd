"""Sampled answers are those of `generate(do_sample=True)`, given its random numbers; and each row has its own.

The reference is `generate` on one sample alone, whose `torch.multinomial` is replaced by an inverse CDF written here.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from family_proof import single_inputs
from PIL import Image
from scipy.stats import chi2, kstest
from tiny_models import TINY, tiny_model

from halp_probe.engine.decoding import answer_rules, sample_tokens
from halp_probe.engine.engine import ComputedBatch, Engine
from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prompting import Prompt, Prompter
from halp_probe.engine.sampling import GREEDY, Decoding
from halp_probe.errors import InputError
from halp_probe.models.loading import LoadedModel, load_weights, open_checkpoint
from halp_probe.records import CaptureSpec, Sample

pytestmark = pytest.mark.slow

NEW_TOKENS = 6
QUESTIONS = ("Is there a red circle?", "What colour is the very small square left of the triangle?", "How many?")
SAMPLED = (
    Decoding(temperature=1.7, seed=3),
    Decoding(temperature=0.8, top_p=0.7, seed=3),
    Decoding(temperature=2.0, top_p=0.9, repetition_penalty=1.6),
)


@dataclass(frozen=True)
class Setting:
    loaded: LoadedModel
    prompts: list[Prompt]  # eight on three images, in mixed order

    def engine(self, decoding: Decoding, tokens: int = NEW_TOKENS, **more: Any) -> Engine:
        return Engine(self.loaded, CaptureSpec((0,), tokens), decoding=decoding, **more)

    def answers(self, decoding: Decoding, **more: Any) -> list[list[int]]:
        return self.engine(decoding, **more).compute(self.prompts).answers

    def generate(self, prompt: Prompt, **settings: Any) -> Any:
        inputs = single_inputs(self.loaded, prompt, TINY.get(self.loaded.checkpoint.name.removeprefix("tiny-")))
        return self.loaded.model.generate(**inputs, max_new_tokens=NEW_TOKENS, **settings)


@pytest.fixture(scope="module", params=["shapes", "qwen2_5_vl", "gemma3"])
def setting(request: pytest.FixtureRequest) -> Setting:
    return made(request.param)


@pytest.fixture(scope="module")
def shapes() -> Setting:
    return made("shapes")


def made(name: str) -> Setting:
    loaded = load_weights(open_checkpoint("shapes")) if name == "shapes" else tiny_model(name)
    prompter, rng = Prompter(checkpoint=loaded.checkpoint), np.random.default_rng(3)
    sizes = ((112, 112), (70, 130), (112, 112))
    images = [
        LoadedImage(Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)), f"content {k}")
        for k, size in enumerate(sizes)
    ]
    prompts = [
        prompter.prompt(
            Sample(question_id=f"q{k}", image_id=f"{image}.png", question=QUESTIONS[k % 3], answer=""), images[image]
        )
        for k, image in enumerate((0, 1, 0, 2, 1, 0, 0, 2))
    ]
    return Setting(loaded, prompts)


@pytest.fixture
def own_settings(setting: Setting) -> Iterator[Any]:
    """The model's generation_config, which is itself again afterwards."""
    model = setting.loaded.model
    before, model.generation_config = (
        model.generation_config,
        type(model.generation_config)(**model.generation_config.to_dict()),
    )
    yield model.generation_config
    model.generation_config = before


def numbers(decoding: Decoding, key: str, attempt: int, tokens: int) -> np.ndarray:
    """A row's own random numbers, by the rule that its docstring gives."""
    digest = hashlib.sha256(f'[{decoding.seed}, "{key}", {attempt}]'.encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big"))).random(tokens)


def with_numbers(draws: np.ndarray) -> Callable[..., torch.Tensor]:
    """In the place of `torch.multinomial`, on one row."""
    left = iter(draws)

    def draw(probabilities: torch.Tensor, num_samples: int) -> torch.Tensor:
        cumulated = np.cumsum(probabilities[0].double().numpy())
        return torch.tensor([[int(np.searchsorted(cumulated, next(left) * cumulated[-1], side="right"))]])

    return draw


def generated(
    setting: Setting, prompt: Prompt, decoding: Decoding, monkeypatch: pytest.MonkeyPatch, attempt: int = 1
) -> list[int]:
    draws = numbers(decoding, prompt.sample.question_id, attempt, NEW_TOKENS)
    monkeypatch.setattr(torch, "multinomial", with_numbers(draws))
    sequence = setting.generate(prompt, **asked(decoding))[0, len(prompt) :]
    return [int(token) for token in sequence]


def asked(decoding: Decoding) -> dict[str, Any]:
    """The same of `generate`."""
    penalty = {} if decoding.repetition_penalty is None else {"repetition_penalty": decoding.repetition_penalty}
    return {
        "do_sample": True,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "top_k": 0,
        **penalty,
    }


@pytest.mark.parametrize("share_prefix", [False, True], ids=["whole", "shared"])
@pytest.mark.parametrize("decoding", SAMPLED, ids=["temperature", "top_p", "penalty"])
def test_sampled_answers_are_those_of_generate(
    setting: Setting, decoding: Decoding, share_prefix: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = setting.answers(decoding, share_prefix=share_prefix)
    assert found == [generated(setting, prompt, decoding, monkeypatch) for prompt in setting.prompts]
    assert found != setting.answers(GREEDY)


def test_the_checkpoint_s_penalty_holds_unless_another_is_given(
    setting: Setting, own_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none of its sampling settings do."""
    plain, penalised = Decoding(temperature=1.7), Decoding(temperature=1.7, repetition_penalty=1.9)
    without = setting.answers(plain)
    own_settings.do_sample, own_settings.temperature, own_settings.top_k = True, 1e-3, 1
    own_settings.top_p, own_settings.min_p, own_settings.typical_p = 0.1, 0.9, 0.2
    assert setting.answers(plain) == without
    own_settings.top_k = own_settings.min_p = own_settings.typical_p = None
    own_settings.repetition_penalty = 1.9
    followed = setting.answers(plain)
    assert followed == setting.answers(penalised) != without
    assert followed == [generated(setting, prompt, plain, monkeypatch) for prompt in setting.prompts]
    assert setting.answers(replace(plain, repetition_penalty=1.0)) == without


@pytest.mark.parametrize("penalty", [0.6, 1.0])
def test_a_penalty_is_followed_by_greedy_answers(setting: Setting, own_settings: Any, penalty: float) -> None:
    own_settings.repetition_penalty = 3.0
    found = setting.answers(Decoding(repetition_penalty=penalty))
    expected = [setting.generate(prompt, do_sample=False, repetition_penalty=penalty) for prompt in setting.prompts]
    assert found == [sequence[0, len(p) :].tolist() for sequence, p in zip(expected, setting.prompts, strict=True)]
    assert found != setting.answers(GREEDY)


@pytest.mark.parametrize("decoding", SAMPLED, ids=["temperature", "top_p", "penalty"])
def test_processed_scores_are_those_of_generate(setting: Setting, own_settings: Any, decoding: Decoding) -> None:
    """To the last bit, at every step."""
    own_settings.suppress_tokens = [5, 7]
    prompt = setting.prompts[1]
    torch.manual_seed(0)
    told = setting.generate(
        prompt, **asked(decoding), return_dict_in_generate=True, output_scores=True, output_logits=True
    )
    processors = answer_rules(own_settings, None, (), decoding).processors(torch.device("cpu"))
    for step, (raw, processed) in enumerate(zip(told.logits, told.scores, strict=True)):
        history = told.sequences[:, : len(prompt) + step]
        assert torch.equal(processors(history, raw.float().clone()), processed)


def test_an_answer_does_not_depend_on_its_batch(setting: Setting) -> None:
    """Alone, in another order, with shared prefixes, or padded on the other side."""
    decoding = SAMPLED[0]
    engine, count = setting.engine(decoding), len(setting.prompts)
    found = engine.compute(setting.prompts).answers
    assert len({tuple(answer) for answer in found}) > count // 2
    assert [engine.compute([prompt]).answers[0] for prompt in setting.prompts] == found
    assert engine.compute(setting.prompts[::-1]).answers == found[::-1]
    assert setting.answers(decoding, share_prefix=True) == found
    assert setting.answers(decoding, padding_side="right") == found


def test_a_longer_limit_goes_on_from_the_same_beginning(shapes: Setting) -> None:
    short = shapes.engine(SAMPLED[0], tokens=3).compute(shapes.prompts).answers
    assert short == [answer[:3] for answer in shapes.answers(SAMPLED[0])]


@pytest.mark.parametrize("share_prefix", [False, True], ids=["whole", "shared"])
def test_rows_that_end_leave_the_others_as_they_are(
    setting: Setting, own_settings: Any, share_prefix: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens of several answers are the end tokens; `finished` tells an end from the limit, also at the last token."""
    decoding = Decoding(temperature=5.0, seed=1)  # with 0 one draw lies within rounding of the edge of two tokens
    own_settings.eos_token_id = []
    long = setting.answers(decoding)
    ends = [long[0][1], long[3][3]]
    ends.append(next(answer[-1] for answer in long if not {*ends, answer[-1]} & {*answer[:-1]}))
    own_settings.eos_token_id = ends
    computed = setting.engine(decoding, share_prefix=share_prefix).compute(setting.prompts)
    assert computed.answers == [generated(setting, prompt, decoding, monkeypatch) for prompt in setting.prompts]
    assert len({len(answer) for answer in computed.answers}) > 2
    assert computed.finished == [bool(set(answer) & set(ends)) for answer in computed.answers]
    assert set(computed.finished) == {True, False}
    assert any(done and len(a) == NEW_TOKENS for done, a in zip(computed.finished, computed.answers, strict=True))
    captured = setting.engine(decoding).run(setting.prompts)
    assert [row.finished for row in captured] == computed.finished


def test_what_was_not_answered_is_not_finished(shapes: Setting) -> None:
    """Neither behind a shut gate, which sees no answer yet, nor where none was asked for."""
    seen: list[ComputedBatch] = []

    def gate(computed: ComputedBatch) -> np.ndarray:
        seen.append(computed)
        return np.arange(len(computed.prompts)) % 2 == 0

    decoding = Decoding(temperature=1.2)
    whole = shapes.engine(decoding, tokens=40).compute(shapes.prompts)
    gated = shapes.engine(decoding, tokens=40, gate=gate).compute(shapes.prompts)
    assert gated.finished == [done and k % 2 == 0 for k, done in enumerate(whole.finished)] and any(gated.finished)
    assert gated.answers == [answer if k % 2 == 0 else [] for k, answer in enumerate(whole.answers)]
    assert not any(seen[0].finished) and not any(seen[0].answers)
    silent = shapes.engine(GREEDY, tokens=0).run(shapes.prompts)
    assert not any(row.finished for row in silent)


@pytest.mark.parametrize(
    "decoding",
    [Decoding(temperature=0.0), Decoding(temperature=1e-6), Decoding(temperature=5.0, top_p=1e-9)],
    ids=["0", "nearly 0", "top_p nearly 0"],
)
def test_limits_of_sampling_are_greedy(setting: Setting, decoding: Decoding) -> None:
    assert setting.answers(decoding) == setting.answers(GREEDY)


def test_seed_question_and_attempt_each_give_other_answers(shapes: Setting) -> None:
    decoding = Decoding(temperature=3.0, seed=1)
    found = shapes.answers(decoding)
    assert shapes.answers(decoding) == found
    renamed = [replace(p, sample=replace(p.sample, question_id=f"other {k}")) for k, p in enumerate(shapes.prompts)]
    others = (
        shapes.answers(replace(decoding, seed=2)),
        shapes.answers(decoding, attempt=2),
        shapes.engine(decoding).compute(renamed).answers,
    )
    for other in others:
        assert all(mine != own for mine, own in zip(found, other, strict=True))


def test_frequencies_are_those_of_the_distribution(shapes: Setting) -> None:
    """Of first tokens, and of second ones behind the commonest first: 2,000 answers to one question."""
    decoding, prompt, count = Decoding(temperature=2.5, top_p=0.98), shapes.prompts[0], 2000
    asking = [replace(prompt, sample=replace(prompt.sample, question_id=f"{k}")) for k in range(count)]
    engine = shapes.engine(decoding, tokens=2, share_prefix=True)
    found = [answer for k in range(0, count, 250) for answer in engine.compute(asking[k : k + 250]).answers]
    first = Counter(answer[0] for answer in found)
    assert_drawn(first, distribution(shapes, prompt, [], decoding))
    token, _ = next(item for item in first.most_common() if any(a[0] == item[0] and len(a) == 2 for a in found))
    second = Counter(answer[1] for answer in found if answer[0] == token)
    assert_drawn(second, distribution(shapes, prompt, [token], decoding))


def distribution(setting: Setting, prompt: Prompt, said: list[int], decoding: Decoding) -> np.ndarray:
    """[V] probabilities of the token behind `said`, from a plain forward pass and the definition of top_p."""
    inputs = single_inputs(setting.loaded, prompt)
    longer = torch.cat([inputs["input_ids"], torch.tensor([said], dtype=torch.long)], dim=1)
    more = {"input_ids": longer, "attention_mask": torch.ones_like(longer)}
    types = setting.loaded.checkpoint.family.token_types
    if types is not None and types.name in inputs:
        more[types.name] = torch.nn.functional.pad(inputs[types.name], (0, len(said)))
    with torch.no_grad():
        logits = setting.loaded.model(**{**inputs, **more}).logits[0, -1].double().numpy()
    scaled = np.exp((logits - logits.max()) / decoding.temperature)
    probabilities = scaled / scaled.sum()
    order = np.argsort(-probabilities)
    before = np.cumsum(probabilities[order]) - probabilities[order]
    kept = order[before < decoding.top_p]  # until the likeliest have that mass
    inside = np.zeros_like(probabilities)
    inside[kept] = probabilities[kept]
    return inside / inside.sum()


def assert_drawn(counts: Counter[int], probabilities: np.ndarray) -> None:
    """By Pearson's chi-square, tokens expected less than five times in one class; nothing of probability 0."""
    total = sum(counts.values())
    assert all(probabilities[token] > 0 for token in counts)
    expected = total * probabilities
    large = np.flatnonzero(expected >= 5)
    assert len(large) >= 5
    observed = np.array([counts[int(token)] for token in large] + [0.0])
    observed[-1] = total - observed.sum()
    wanted = np.append(expected[large], max(total - expected[large].sum(), 1e-9))
    if wanted[-1] < 5:  # too few for a class of their own
        observed, wanted = np.append(observed[:-2], observed[-2:].sum()), np.append(wanted[:-2], wanted[-2:].sum())
    statistic = ((observed - wanted) ** 2 / wanted).sum()
    assert chi2.sf(statistic, len(wanted) - 1) > 1e-3


def test_no_random_number_draws_what_has_no_probability() -> None:
    """The least and the greatest, and scores that are not numbers still give a token's id."""
    scores = torch.tensor([-np.inf, 1.0, -np.inf, 1.0, -np.inf]).repeat(5, 1)
    scores[4] = np.nan
    drawn = sample_tokens(scores, torch.tensor([0.0, 0.4999, 0.5001, 1 - 2.0**-53, 0.5], dtype=torch.float64))
    assert drawn[:4].tolist() == [1, 1, 3, 3] and 0 <= drawn[4] < 5
    scores = torch.from_numpy(np.random.default_rng(0).normal(size=(200, 1000)))  # sums that rounding leaves below 1
    scores[:, -3:] = -np.inf
    assert (sample_tokens(scores, torch.full((200,), 1 - 2.0**-53, dtype=torch.float64)) == 996).all()


def test_random_numbers_are_uniform_and_each_row_s_own() -> None:
    decoding = Decoding(temperature=1.0, seed=5)
    keys = [f"question/{k}" for k in range(400)]
    drawn = decoding.uniforms(keys, 1, 30)
    assert drawn.shape == (400, 30) and kstest(drawn.ravel(), "uniform").pvalue > 1e-3
    for side, most in ((drawn, 0.9), (drawn.T, 0.25)):  # rows of 30 numbers, columns of 400
        assert np.abs(np.corrcoef(side) - np.eye(len(side))).max() < most
    assert np.array_equal(decoding.uniforms(keys[7:9], 1, 12), drawn[7:9, :12])
    assert np.array_equal(drawn[4], numbers(decoding, keys[4], 1, 30))
    assert decoding.uniforms([], 1, 30).shape == (0, 30)


def test_streams_of_odd_ids_are_told_apart() -> None:
    """Ids that would run together with seed or attempt; one with half a surrogate pair, as a file name may have."""
    named = [(1, "1", 1), (11, "", 1), (1, "", 11), (1, '1", 1', 1), (1, "\udc80", 1), (1, "é", 1), (-1, "1", 1)]
    assert len({Decoding(temperature=1.0, seed=seed).stream(key, attempt) for seed, key, attempt in named}) == len(
        named
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, "temperature -0.1"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"temperature": float("inf")}, "temperature inf"),
        ({"temperature": 1e-7}, "0 is greedy"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p 0.0"),
        ({"temperature": 1.0, "top_p": 1.01}, "top_p 1.01"),
        ({"temperature": 1.0, "top_p": float("nan")}, "top_p nan"),
        ({"top_p": 0.9}, "`temperature=0.7`"),
        ({"temperature": 0, "top_p": 0.9}, "would do nothing"),
        ({"repetition_penalty": 0.0}, "repetition_penalty 0.0"),
        ({"repetition_penalty": -1.0}, "repetition_penalty -1.0"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty nan"),
    ],
)
def test_values_that_mean_nothing_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Decoding(**settings)


def test_settings_hold_what_can_change_an_answer() -> None:
    assert GREEDY.settings() == Decoding(temperature=0, seed=9).settings()
    assert Decoding(repetition_penalty=1.1).settings() == {"temperature": None, "repetition_penalty": 1.1}
    assert Decoding(temperature=0.5, top_p=0.9, repetition_penalty=None, seed=9).settings() == {
        "temperature": 0.5,
        "top_p": 0.9,
        "repetition_penalty": None,
        "seed": 9,
    }
