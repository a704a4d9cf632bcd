"""A risk before the first token is that of the offline probe on the same rows, and the answer is that of `generate`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from family_proof import single_inputs
from PIL import Image
from tiny_models import tiny_model

import halp_probe
from halp_probe.cli import run_script
from halp_probe.engine.engine import Engine
from halp_probe.engine.images import load_image
from halp_probe.engine.prompting import Prompt, Prompter
from halp_probe.engine.provenance import run_settings
from halp_probe.errors import InputError
from halp_probe.extraction.manifest import shard_attributes
from halp_probe.models.loading import LoadedModel
from halp_probe.probes.card import fused_card, vectors_card
from halp_probe.probes.files import SavedProbe, file_stem, load_probe, save_probe
from halp_probe.probes.fitting.estimators import LinearProbe
from halp_probe.probes.fusion.fused import add_up, number_part, one_part
from halp_probe.probes.judging.calibration import Calibration
from halp_probe.probes.judging.thresholds import threshold_for_coverage
from halp_probe.records import Captured, CaptureSpec, Sample
from halp_probe.scoring.scorer import RiskScorer
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.columns import from_captured
from halp_probe.shards.reader import Shards, open_shards
from halp_probe.shards.writer import write_shard

pytestmark = pytest.mark.slow

REPRESENTATIONS = (
    "vision_only_representation",
    "vision_encoder_representation",
    "vision_token_representation/layer_3",
    "query_token_representation/layer_5",
)
FUSED = "fused_stack"  # of all of these and of the first token's entropy
QUESTIONS = ("Is there a red circle?", "How many?", "What colour is the very small square left of the triangle?")
NEW_TOKENS = 6


@dataclass(frozen=True)
class Trained:
    """Shards, and a probe of each representation in `folder`, calibrated, with the threshold of 80 % coverage."""

    shards: Shards
    folder: Path
    images: Path

    def path(self, representation: str) -> Path:
        return self.folder / file_stem(representation)

    def picture(self, row: int) -> Path:
        return self.images / self.shards.text("image_id")[row]


def train(shards: Shards, y: np.ndarray, folder: Path, images: Path) -> Trained:
    for name in REPRESENTATIONS:
        x = shards.vectors(name)
        probe = LinearProbe(Cs=(1e-2,)).fit(x, y)
        logit = probe.decision_function(x)
        calibration = Calibration.fit("platt", logit, y)
        threshold = threshold_for_coverage(calibration(logit), y, 0.8)
        save_probe(folder / file_stem(name), probe, vectors_card(name, shards.attributes), calibration, threshold)
    parts = [one_part(name, load_probe(folder / file_stem(name)).estimator) for name in REPRESENTATIONS]
    fused = add_up([*parts, number_part("first_token_entropy")], np.array([0.5, 0.1, -0.2, 0.4, 0.3]), -0.1)
    card = fused_card(FUSED, fused.inputs, shards.attributes)
    log_odds = fused.log_odds(shards)
    calibration = Calibration.fit("platt", log_odds, y)
    threshold = threshold_for_coverage(calibration(log_odds), y, 0.8)
    save_probe(folder / FUSED, fused, card, calibration, threshold)
    return Trained(shards, folder, images)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The bundled model on 20 scenes of 4 questions, extracted by the command in batches with shared prefixes."""
    folder = tmp_path_factory.mktemp("shapes")
    write_dataset(folder, n_scenes=20, questions_a_scene=4, seed=700)
    call = ["--vqa-dataset", str(folder / "vqa.csv"), "--images-dir", str(folder / "images"), "--model", "shapes"]
    call += ["--output-dir", str(folder / "shards"), "--max-new-tokens", str(NEW_TOKENS), "--layers", "3,5"]
    assert run_script("extract", None, call) == 0
    shards = open_shards(folder / "shards")
    truth = shards.text("ground_truth_answer")
    y = np.array([a != t for a, t in zip(shards.text("answer"), truth, strict=True)], dtype=int)
    return train(shards, y, folder / "probes", folder / "images")


@pytest.fixture(scope="module", params=["qwen2_vl", "llava", "gemma3"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, Trained]:
    """Random weights: three questions on each of four pictures, captured in one batch."""
    loaded, folder = tiny_model(request.param), tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(3)
    for k, (width, height) in enumerate(((112, 112), (70, 130), (200, 90), (64, 64))):
        Image.fromarray(rng.integers(0, 255, size=(height, width, 3), dtype=np.uint8)).save(folder / f"{k}.png")
    prompter = Prompter(checkpoint=loaded.checkpoint)
    samples = [
        Sample(question_id=f"{k}-{i}", image_id=f"{k}.png", question=text, answer="")
        for k in range(4)
        for i, text in enumerate(QUESTIONS)
    ]
    prompts = [prompter.prompt(sample, load_image(folder / sample.image_id)) for sample in samples]
    spec = CaptureSpec((3, 5), NEW_TOKENS)
    captured = Engine(loaded, spec, share_prefix=True).run(prompts)
    attributes = shard_attributes(loaded, run_settings(loaded, prompter, spec), prefix_shared=True)
    write_shard(folder / "tiny_embeddings_part_001.h5", from_captured(captured), attributes)
    y = np.random.default_rng(0).integers(0, 2, len(samples))
    return loaded, train(open_shards(folder), y, folder / "probes", folder)


def assert_risks_are_those_of_the_shards(scorer: RiskScorer, trained: Trained, representation: str) -> None:
    expected = load_probe(trained.path(representation)).risk_of(trained.shards)
    assert expected.std() > 0.01
    questions = trained.shards.text("question")
    risks = [scorer.score(trained.picture(row), question) for row, question in enumerate(questions)]
    assert np.abs(np.array(risks) - expected).max() <= 1e-5


@pytest.mark.parametrize("representation", [*REPRESENTATIONS, FUSED])
def test_the_risk_is_that_of_the_offline_probe(shapes: Trained, representation: str) -> None:
    assert_risks_are_those_of_the_shards(RiskScorer(None, shapes.path(representation)), shapes, representation)


@pytest.mark.parametrize("representation", [*REPRESENTATIONS, FUSED])
def test_so_it_is_in_other_families(tiny: tuple[LoadedModel, Trained], representation: str) -> None:
    loaded, trained = tiny
    scorer = RiskScorer(loaded, trained.path(representation))
    assert_risks_are_those_of_the_shards(scorer, trained, representation)


def generated(loaded: LoadedModel, prompt: Prompt, new_tokens: int) -> tuple[int, ...]:
    inputs = single_inputs(loaded, prompt)
    sequences = loaded.model.generate(**inputs, do_sample=False, max_new_tokens=new_tokens)
    return tuple(sequences[0, len(prompt) :].tolist())


def test_the_answer_is_that_of_generate(shapes: Trained, tiny: tuple[LoadedModel, Trained]) -> None:
    bundled = RiskScorer("shapes", shapes.path(REPRESENTATIONS[3]))
    for scorer, trained in ((bundled, shapes), (RiskScorer(tiny[0], tiny[1].path(REPRESENTATIONS[2])), tiny[1])):
        questions = trained.shards.text("question")
        lengths = set()
        for row in range(12):
            answer = scorer.answer(trained.picture(row), questions[row], max_new_tokens=NEW_TOKENS)
            sample = Sample(question_id="", image_id="", question=questions[row], answer="")
            prompt = Prompter(checkpoint=scorer.loaded.checkpoint).prompt(sample, load_image(trained.picture(row)))
            assert answer.token_ids == generated(scorer.loaded, prompt, NEW_TOKENS)
            assert answer.text == trained.shards.text("answer")[row] and not answer.abstained
            assert answer.risk == pytest.approx(scorer.score(trained.picture(row), questions[row]), abs=1e-7)
            lengths.add(len(answer.token_ids))
        assert lengths != {1}


def test_a_probe_of_text_alone_scores_text_alone(tmp_path: Path) -> None:
    loaded = tiny_model("qwen2_vl")
    prompter = Prompter(checkpoint=loaded.checkpoint, system="Be brief.")
    samples = [
        Sample(question_id=str(k), image_id="note", question=text, answer="", images=())
        for k, text in enumerate(QUESTIONS)
    ]
    spec = CaptureSpec((3,), NEW_TOKENS)
    captured = Engine(loaded, spec).run([prompter.prompt(sample) for sample in samples])
    settings = run_settings(loaded, prompter, spec, text_only=True)
    attributes = shard_attributes(loaded, settings, prefix_shared=False)
    write_shard(tmp_path / "tiny_embeddings_part_001.h5", from_captured(captured), attributes)
    shards, name = open_shards(tmp_path), "query_token_representation/layer_3"
    probe = LinearProbe(Cs=(1e-2,)).fit(shards.vectors(name), np.arange(len(samples)) % 2)
    save_probe(tmp_path / "probe", probe, vectors_card(name, shards.attributes))
    scorer = RiskScorer(loaded, tmp_path / "probe")
    risks = [scorer.score(None, text) for text in QUESTIONS]
    assert np.abs(risks - load_probe(tmp_path / "probe").risk(shards.vectors(name))).max() <= 1e-5
    assert [scorer.answer([], text, max_new_tokens=NEW_TOKENS).text for text in QUESTIONS] == [
        row.answer for row in captured
    ]
    with pytest.raises(InputError, match="pass no image"):
        scorer.score(Image.new("RGB", (64, 64)), QUESTIONS[0])


def test_it_abstains_above_the_level_alone(shapes: Trained) -> None:
    name = REPRESENTATIONS[3]
    scorer, probe = halp_probe.RiskScorer("shapes", shapes.path(name)), load_probe(shapes.path(name))
    question = shapes.shards.text("question")[0]
    risk = scorer.score(shapes.picture(0), question)
    for level, abstained in ((risk - 1e-3, True), (risk + 1e-3, False), (None, False)):
        answer = scorer.answer(shapes.picture(0), question, abstain_above=level)
        assert (answer.abstained, answer.text is None, answer.token_ids == ()) == (abstained,) * 3
        assert answer.risk == pytest.approx(risk, abs=1e-7)
    assert probe.threshold is not None
    by_card = scorer.answer(shapes.picture(0), question, abstain_above="threshold")
    assert by_card.abstained == (risk > probe.threshold.risk)


def test_pictures_in_memory_are_those_of_files(shapes: Trained) -> None:
    scorer, question = RiskScorer("shapes", shapes.path(REPRESENTATIONS[2])), "Is there a red circle?"
    expected = scorer.score(shapes.picture(0), question)
    assert scorer.score(str(shapes.picture(0)), question) == expected
    assert scorer.score(load_image(shapes.picture(0)), question) == expected
    with Image.open(shapes.picture(0)) as picture:
        assert scorer.score(picture, question) == expected
        assert scorer.score(picture.convert("RGBA"), question) == expected


def test_one_prefill_gives_risk_and_answer(shapes: Trained) -> None:
    """The decoder runs once over the prompt, then once a token; an abstained question costs the prompt alone."""
    scorer, lengths = RiskScorer("shapes", shapes.path(REPRESENTATIONS[3])), []
    hook = scorer.loaded.model.model.language_model.layers[0].register_forward_hook(
        lambda _module, args, _output: lengths.append(args[0].shape[1])
    )
    try:
        answer = scorer.answer(shapes.picture(0), "Is there a red circle?", max_new_tokens=4)
        assert lengths[0] > 4 and lengths[1:] == [1] * (len(answer.token_ids) - 1)
        prompt = lengths[0]
        lengths.clear()
        scorer.answer(shapes.picture(0), "Is there a red circle?", abstain_above=0.0)
        scorer.score(shapes.picture(0), "Is there a red circle?")
        assert lengths == [prompt, prompt]
    finally:
        hook.remove()


def changed(probe: SavedProbe, **card: object) -> SavedProbe:
    return replace(probe, metadata={**probe.metadata, **card})


def test_a_probe_of_another_model_is_refused(shapes: Trained, tiny: tuple[LoadedModel, Trained]) -> None:
    probe = load_probe(shapes.path(REPRESENTATIONS[3]))
    with pytest.raises(
        InputError, match=r"on states of shapes, the model is tiny-.*: config_.*'qwen2_5_vl' in .*revision is 'local-"
    ):
        RiskScorer(tiny[0], probe)
    with pytest.raises(InputError, match=r"reads vectors of width 128, those of tiny-.* have 32"):
        RiskScorer(tiny[0], probe, allow_other_model=True)
    loaded = RiskScorer("shapes", probe).loaded
    for card, message in (
        ({"revision": "local-0"}, "revision is 'local-0' in the card"),
        ({"revision": None}, "revision is unknown in the card and .*Train it again"),
        ({"config_model_type": "llava"}, "config_model_type is 'llava' in the card and 'qwen2_5_vl' here"),
        ({"chat_template_sha256": "0" * 64}, "chat_template_sha256 is '0000.* here. Use the chat template"),
    ):
        with pytest.raises(InputError, match=message):
            RiskScorer(loaded, changed(probe, **card))
        assert RiskScorer(loaded, changed(probe, **card), allow_other_model=True).probe.width == 128
    for card, message in (
        ({"representation": "query_token_representation/layer_6"}, "reads layer 6, shapes has layers 0 to 5"),
        ({"representation": "somewhere"}, "'somewhere', which is not a representation"),
    ):
        with pytest.raises(InputError, match=message):
            RiskScorer(loaded, changed(probe, **card), allow_other_model=True)


def test_images_are_sized_as_in_training(shapes: Trained) -> None:
    """Of other sizes the vision mean would be another."""
    probe = load_probe(shapes.path(REPRESENTATIONS[0]))
    small = RiskScorer("shapes", changed(probe, min_pixels=56 * 56, max_pixels=56 * 56))
    question = "Is there a red circle?"
    usual = RiskScorer(small.loaded, probe).score(shapes.picture(0), question)
    assert abs(small.score(shapes.picture(0), question) - usual) > 1e-4


def test_what_cannot_be_answered_is_refused(shapes: Trained, tmp_path: Path) -> None:
    scorer = RiskScorer("shapes", shapes.path(REPRESENTATIONS[3]))
    picture = shapes.picture(0)
    for level in ("high", 1.5, float("nan")):
        with pytest.raises(InputError, match="between 0 and 1"):
            scorer.answer(picture, "Why?", abstain_above=level)
    with pytest.raises(InputError, match="at least one token"):
        scorer.answer(picture, "Why?", max_new_tokens=0)
    with pytest.raises(InputError, match="special token"):
        scorer.score(picture, "<|image_pad|>")
    with pytest.raises(InputError, match="the model takes"):
        scorer.answer(picture, "Why?", max_new_tokens=10_000)
    with pytest.raises(InputError, match=r"none\.png cannot be read"):
        scorer.score(tmp_path / "none.png", "Why?")
    with pytest.raises(InputError, match="blank question"):
        scorer.score(picture, " \n")
    cut = tmp_path / "cut.png"
    cut.write_bytes(picture.read_bytes()[:200])
    with pytest.raises(InputError, match="cannot be decoded"):
        scorer.score(Image.open(cut), "Why?")  # Pillow reads the pixels later
    bare = RiskScorer(scorer.loaded, replace(scorer.probe, threshold=None))
    with pytest.raises(InputError, match="no threshold"):
        bare.answer(picture, "Why?", abstain_above="threshold")


def test_a_state_that_is_not_finite_has_no_risk(shapes: Trained) -> None:
    scorer = RiskScorer("shapes", shapes.path(REPRESENTATIONS[3]))
    hook = scorer.loaded.model.model.language_model.layers[5].register_forward_hook(lambda _m, _a, out: out * np.nan)
    try:
        with pytest.raises(InputError, match="not finite"):
            scorer.score(shapes.picture(0), "Why?")
    finally:
        hook.remove()


@pytest.mark.parametrize("share_prefix", [False, True])
def test_a_gate_changes_only_who_is_answered(tiny: tuple[LoadedModel, Trained], share_prefix: bool) -> None:
    loaded, trained = tiny
    prompter = Prompter(checkpoint=loaded.checkpoint)
    prompts = [
        prompter.prompt(
            Sample(question_id=f"{k}-{i}", image_id="", question=text, answer=""),
            load_image(trained.images / f"{k}.png"),
        )
        for k in range(3)
        for i, text in enumerate(QUESTIONS)
    ]
    kept = np.array([True, False, True, False, False, False, True, True, False])
    spec = CaptureSpec((3, 5), NEW_TOKENS)

    def run(keep: np.ndarray) -> list[Captured]:
        return Engine(loaded, spec, share_prefix=share_prefix, gate=lambda _read: keep).run(prompts)

    free, gated, shut = Engine(loaded, spec, share_prefix=share_prefix).run(prompts), run(kept), run(kept & False)
    for row, reference in enumerate(free):
        for one in (gated[row], shut[row]):
            assert (one.query_token[5] == reference.query_token[5]).all()
            assert one.first_token_entropy == reference.first_token_entropy
        if kept[row]:
            assert (gated[row].answer, gated[row].answer_tokens) == (reference.answer, reference.answer_tokens)
            assert gated[row].answer_logprob == pytest.approx(reference.answer_logprob, abs=1e-4)
        for one in ([] if kept[row] else [gated[row]]) + [shut[row]]:
            assert (one.answer, one.answer_tokens) == ("", 0) and np.isnan(one.answer_logprob)
