"""Answers that are sampled beside the greedy one: each is what sampling alone gives, and the greedy one stays.

The oracle is the engine that samples one answer in place of the greedy one, which another test holds against
`generate(do_sample=True)`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_models import tiny_model

import halp_probe
from halp_probe.engine.decoding import answer_rules
from halp_probe.engine.engine import ComputedBatch, Engine
from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prompting import Prompt, Prompter
from halp_probe.engine.sampled import SampledTokens
from halp_probe.engine.sampling import Decoding, Sampling
from halp_probe.errors import InputError
from halp_probe.models.loading import LoadedModel, load_weights, open_checkpoint
from halp_probe.records import CaptureSpec, Sample
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.reader import Shards, open_shards
from halp_probe.shards.validation import problems

pytestmark = pytest.mark.slow

TOKENS = 6
SAMPLING = Sampling(count=5, temperature=1.4, seed=3)
# Plain attention, sliding windows, recurrent states, cross-attention, and positions on three axes.
FAMILIES = ("shapes", "qwen2_5_vl", "gemma3", "qwen3_5", "mllama", "llava_next", "idefics3")
QUESTIONS = ("Is there a red circle?", "What colour is the very small square left of the triangle?", "How many?")


class Setting:
    """A tiny model, and six prompts on two images in mixed order."""

    def __init__(self, name: str) -> None:
        self.loaded: LoadedModel = load_weights(open_checkpoint("shapes")) if name == "shapes" else tiny_model(name)
        prompter, rng = Prompter(checkpoint=self.loaded.checkpoint), np.random.default_rng(3)
        images = [
            LoadedImage(Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)), f"content {k}")
            for k, size in enumerate(((112, 112), (70, 130)))
        ]
        self.prompts: list[Prompt] = [
            prompter.prompt(
                Sample(question_id=f"q{k}", image_id=f"{i}.png", question=QUESTIONS[k % 3], answer=""), images[i]
            )
            for k, i in enumerate((0, 1, 0, 1, 1, 0))
        ]

    def engine(self, sampling: Sampling | None = SAMPLING, **more: Any) -> Engine:
        return Engine(self.loaded, CaptureSpec((0,), TOKENS), sampling=sampling, **more)

    def sampled(self, **more: Any) -> SampledTokens:
        return found(self.engine(**more).compute(self.prompts))


def found(computed: ComputedBatch) -> SampledTokens:
    assert computed.sampled is not None
    return computed.sampled


@pytest.fixture(scope="module", params=FAMILIES)
def setting(request: pytest.FixtureRequest) -> Setting:
    return Setting(request.param)


@pytest.fixture(scope="module")
def shapes() -> Setting:
    return Setting("shapes")


@pytest.mark.parametrize("share_prefix", [False, True], ids=["whole", "shared"])
def test_each_sample_is_what_sampling_it_alone_gives(setting: Setting, share_prefix: bool) -> None:
    """Alone in its batch, from a whole prompt; its log-probability is at temperature 1, whatever it was drawn with."""
    together = setting.sampled(share_prefix=share_prefix)
    decoding = Decoding(temperature=1.4, repetition_penalty=1.0, seed=3)
    for number in range(SAMPLING.count):
        alone = Engine(setting.loaded, CaptureSpec((0,), TOKENS), decoding=decoding, attempt=number + 1)
        for row, prompt in enumerate(setting.prompts):
            reference = alone.compute([prompt])
            assert together.tokens[row][number] == reference.answers[0]
            logprob = reference.readings.answer_logprob
            assert logprob is not None and together.logprobs[row, number] == pytest.approx(logprob[0], rel=1e-4)
            assert together.finished[row, number] == reference.finished[0]
    assert len({tuple(tokens) for row in together.tokens for tokens in row}) > SAMPLING.count


@pytest.mark.parametrize("share_prefix", [False, True], ids=["whole", "shared"])
def test_the_greedy_answer_and_all_states_stay_to_the_bit(setting: Setting, share_prefix: bool) -> None:
    with_samples = setting.engine(share_prefix=share_prefix).compute(setting.prompts)
    without = setting.engine(None, share_prefix=share_prefix).compute(setting.prompts)
    assert without.sampled is None and with_samples.answers == without.answers
    assert with_samples.finished == without.finished
    for name in ("vision_only", "vision_token", "query_token", "first_token_entropy", "answer_logprob"):
        one, other = getattr(with_samples.readings, name), getattr(without.readings, name)
        assert one.tobytes() == other.tobytes(), name


def test_groups_change_nothing(shapes: Setting) -> None:
    """However few answers fit the cache together, and however many there are of each question."""
    whole = shapes.sampled()
    for cached in (1, 150, 700):
        parts = shapes.sampled(sampled_tokens=cached)
        assert parts.tokens == whole.tokens
        np.testing.assert_allclose(parts.logprobs, whole.logprobs, rtol=1e-4)
    fewer = shapes.sampled(sampling=replace(SAMPLING, count=2))
    assert fewer.tokens == [row[:2] for row in whole.tokens]
    other = shapes.sampled(sampling=replace(SAMPLING, seed=4))
    assert other.tokens != whole.tokens


def test_a_penalty_of_the_checkpoint_does_not_touch_the_samples(shapes: Setting) -> None:
    config = shapes.loaded.model.generation_config
    plain, greedy = shapes.sampled(), shapes.engine().compute(shapes.prompts).answers
    before, config.repetition_penalty = config.repetition_penalty, 5.0
    try:
        assert answer_rules(config, None).repetition_penalty == 5.0
        penalised = shapes.engine().compute(shapes.prompts)
        assert found(penalised).tokens == plain.tokens and penalised.answers != greedy
    finally:
        config.repetition_penalty = before


def test_what_the_gate_refuses_has_no_samples(shapes: Setting) -> None:
    gated = shapes.engine(gate=lambda computed: np.arange(len(computed.prompts)) % 2 == 0)
    computed, whole = gated.compute(shapes.prompts), shapes.sampled()
    sampled = found(computed)
    assert [sampled.tokens[row] for row in (0, 2, 4)] == [whole.tokens[row] for row in (0, 2, 4)]
    assert np.isnan(sampled.logprobs[1::2]).all() and not any(any(row) for row in sampled.tokens[1::2])
    refused = gated.collect(computed)[1].sampled
    assert refused is not None and refused.answers == ("",) * 5 and refused.tokens.sum() == 0


def test_rows_are_computed_once_while_their_answers_agree(shapes: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a temperature near 0 all samples are one: the batch never has more rows than prompts."""
    rows: list[int] = []
    forward = type(shapes.loaded.model).forward

    def counted(self: Any, *args: Any, **more: Any) -> Any:
        if more["input_ids"].shape[1] == 1:
            rows.append(len(more["input_ids"]))
        return forward(self, *args, **more)

    engine = shapes.engine(Sampling(count=8, temperature=1e-5))
    monkeypatch.setattr(type(shapes.loaded.model), "forward", counted)
    computed = engine.compute(shapes.prompts)
    assert rows and max(rows) <= len(shapes.prompts)
    assert found(computed).tokens == [[answer] * 8 for answer in computed.answers]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, n_scenes=8, questions_a_scene=4, seed=500)
    return folder


def run(data: Path, output: Path, **more: Any) -> halp_probe.Extraction:
    options = {"samples": 4, "sample_temperature": 2.5, "max_new_tokens": 8, "checkpoint_interval": 12, **more}
    return halp_probe.extract(data / "vqa.csv", data / "images", output, model="shapes", **options)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    output = tmp_path_factory.mktemp("whole")
    run(data, output)
    return open_shards(output)


def test_shards_hold_the_samples(whole: Shards) -> None:
    samples, count = whole.samples(), len(whole.question_ids)
    assert len(whole.files) == 3 and [problem for path in whole.files for problem in problems(path)] == []
    assert samples.answer.shape == samples.logprob.shape == samples.tokens.shape == (count, 4)
    assert samples.logprob.dtype == np.float32 and samples.tokens.dtype == np.int32 and samples.finished.dtype == bool
    assert (samples.logprob <= 0).all() and (samples.tokens >= 1).all() and samples.finished.any()
    assert whole.attributes["samples"] == 4 and whole.attributes["sample_temperature"] == 2.5
    assert whole.attributes["sample_seed"] == 0 and whole.has_samples
    assert any(len(set(row)) > 1 for row in samples.answer.tolist())


@pytest.mark.parametrize(
    "more",
    [{"batch_tokens": 60}, {"batch_tokens": 4000}, {"prefix_sharing": False}, {"checkpoint_interval": 5}],
    ids=["alone", "together", "unshared", "small shards"],
)
def test_samples_depend_on_the_question_alone(data: Path, whole: Shards, tmp_path: Path, more: dict[str, Any]) -> None:
    run(data, tmp_path, **more)
    assert_same(open_shards(tmp_path), whole)


def test_a_resumed_run_has_the_samples_of_an_uninterrupted_one(data: Path, whole: Shards, tmp_path: Path) -> None:
    """Stopped three times after a few batches, which are in the journal alone then."""
    for batches in (2, 3):
        calls = iter(range(100))
        assert run(data, tmp_path, batch_tokens=100, should_stop=lambda: next(calls) >= batches).stopped  # noqa: B023
    assert list((tmp_path / "journal").glob("*.h5"))
    assert 0 < run(data, tmp_path, batch_tokens=100).already_done < len(whole.question_ids)
    assert_same(open_shards(tmp_path), whole)


def assert_same(shards: Shards, expected: Shards) -> None:
    order = [shards.question_ids.index(question_id) for question_id in expected.question_ids]
    mine, theirs = shards.samples().take(np.array(order)), expected.samples()
    assert mine.answer.tolist() == theirs.answer.tolist()
    np.testing.assert_array_equal(mine.tokens, theirs.tokens)
    np.testing.assert_array_equal(mine.finished, theirs.finished)
    np.testing.assert_allclose(mine.logprob, theirs.logprob, rtol=1e-4, atol=1e-4)


def test_without_samples_everything_is_as_before(data: Path, whole: Shards, tmp_path: Path) -> None:
    run(data, tmp_path, samples=0)
    plain = open_shards(tmp_path)
    assert not plain.has_samples and "samples" not in plain.attributes
    assert plain.text("answer") == whole.text("answer")
    for name in plain.representations:
        assert plain.vectors(name).tobytes() == whole.vectors(name).tobytes()
    with pytest.raises(InputError, match="`samples=10`"):
        plain.samples()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"samples": 5}, "samples is 4 there and 5 now"),
        ({"sample_temperature": 1.0}, r"sample_temperature is 2.5 there and 1.0 now"),
        ({"seed": 1}, "sample_seed is 0 there and 1 now"),
        ({"samples": 0}, "samples is 4 there and None now"),
    ],
)
def test_other_samples_are_refused_by_name(data: Path, whole: Shards, more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(data, whole.files[0].parent, **more)


def test_settings_that_mean_nothing_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no answers are requested"):
        run(data, tmp_path, answers=False)
    with pytest.raises(InputError, match="`samples` is -1"):
        run(data, tmp_path, samples=-1)
    with pytest.raises(InputError, match="`sample_temperature` 0"):
        run(data, tmp_path, sample_temperature=0)
    table = [{"question_id": "a", "image_id": "scene_000500.png", "question": "?", "answer": "", "samples": "x"}]
    with pytest.raises(InputError, match="column 'samples'"):
        halp_probe.extract(table, data / "images", tmp_path / "b", model="shapes", samples=2)


def test_damaged_samples_are_found(whole: Shards, tmp_path: Path) -> None:
    import h5py

    for name, damage, message in (
        ("logprob", lambda group: group["logprob"].__setitem__((0, 0), 1.0), "above 0"),
        ("nan", lambda group: group["logprob"].__setitem__((0, 0), np.nan), "not a number"),
        ("missing", lambda group: group.__delitem__("tokens"), "tokens is missing"),
        ("none", lambda group: group["tokens"].__setitem__((0, 0), 0), "a sample of no tokens"),
    ):
        path = tmp_path / f"{name}.h5"
        path.write_bytes(whole.files[0].read_bytes())
        with h5py.File(path, "r+") as file:
            damage(file["_columns/samples"])
        assert any(message in problem for problem in problems(path)), name
