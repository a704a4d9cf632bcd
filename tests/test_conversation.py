"""A conversation with probes: its risks are the offline ones, its answers go on from the same prefill."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tiny_models import tiny_model

from halp_probe.cli import run_script
from halp_probe.engine.images import LoadedImage, load_image
from halp_probe.engine.prompting import Prompter, PromptError
from halp_probe.engine.provenance import run_settings
from halp_probe.errors import InputError
from halp_probe.extraction.manifest import shard_attributes
from halp_probe.models.loading import LoadedModel, load_weights, open_checkpoint
from halp_probe.models.naming import BUNDLED_PROBES
from halp_probe.probes.card import vectors_card
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.files import SavedProbe, image_keys, load_probe, load_probes, save_probe, set_threshold
from halp_probe.probes.fitting.estimators import LinearProbe
from halp_probe.records import CaptureSpec
from halp_probe.scoring.compatibility import check_fits
from halp_probe.scoring.conversation import ProbedChat, ProbedReply
from halp_probe.scoring.scorer import RiskScorer
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.names import layer_of
from halp_probe.shards.reader import Shards, open_shards

pytestmark = pytest.mark.slow

SCENES = 121
QUESTION = "Is there a red circle?"


@pytest.fixture(scope="module")
def shapes() -> LoadedModel:
    return load_weights(open_checkpoint("shapes"))


@pytest.fixture(scope="module")
def chat(shapes: LoadedModel) -> ProbedChat:
    return ProbedChat(shapes, load_probes("shapes"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shards, Path]:
    """The demo's first scenes, extracted by the command, and the folder of their pictures."""
    folder = tmp_path_factory.mktemp("demo")
    write_dataset(folder, n_scenes=SCENES, seed=0)
    call = ["--vqa-dataset", str(folder / "vqa.csv"), "--images-dir", str(folder / "images"), "--model", "shapes"]
    assert run_script("extract", None, [*call, "--output-dir", str(folder / "shards"), "--max-new-tokens", "8"]) == 0
    return open_shards(folder / "shards"), folder / "images"


@pytest.fixture
def picture(demo: tuple[Shards, Path]) -> LoadedImage:
    return load_image(demo[1] / "scene_000007.png")


def is_wrong(shards: Shards) -> np.ndarray:
    truth = shards.text("ground_truth_answer")
    return np.array([a != t for a, t in zip(shards.text("answer"), truth, strict=True)])


def test_risks_are_those_of_the_shards_and_of_the_scorer(chat: ProbedChat, demo: tuple[Shards, Path]) -> None:
    shards, images = demo
    expected = {name: p.risk(shards.vectors(p.metadata["representation"])) for name, p in chat.probes.items()}
    scorers = {name: RiskScorer(chat.loaded, probe) for name, probe in chat.probes.items()}
    assert len(expected) == 13
    for row in range(0, 60, 7):
        shown, question = load_image(images / shards.text("image_id")[row]), shards.text("question")[row]
        asked = chat.ask([shown], question, max_new_tokens=8)
        assert list(asked.risks) == list(chat.probes) and not asked.follow_up
        for name, risk in asked.risks.items():
            assert risk == pytest.approx(expected[name][row], abs=1e-5)
            assert risk == pytest.approx(scorers[name].score(shown, question), abs=1e-6)
        assert asked.first_token_entropy == pytest.approx(shards.numbers("first_token_entropy")[row], abs=1e-4)
        assert asked.prompt_tokens == shards.numbers("prompt_tokens")[row]
        assert "".join(asked.stream()) == asked.answer() == shards.text("answer")[row]
        assert len(asked.token_ids) == shards.numbers("answer_tokens")[row]


@contextmanager
def counted(loaded: LoadedModel) -> Iterator[list[int]]:
    """Tokens into the first block, call by call."""
    lengths: list[int] = []
    hook = loaded.checkpoint.family.blocks(loaded.model)[0].register_forward_hook(
        lambda _module, args, _output: lengths.append(args[0].shape[1])
    )
    try:
        yield lengths
    finally:
        hook.remove()


def test_one_prefill_serves_all_probes_and_the_answer(chat: ProbedChat, picture: LoadedImage) -> None:
    """And what is not streamed is not computed."""
    with counted(chat.loaded) as lengths:
        asked = chat.ask([picture], QUESTION, (("How many circles are there?", "2"),))
        assert lengths == [asked.prompt_tokens] and len(asked.risks) == 13
        streamed = "".join(asked.stream())
        assert lengths == [asked.prompt_tokens] + [1] * (len(asked.token_ids) - 1)
        assert asked.answer() == streamed and len(lengths) == len(asked.token_ids) > 1
        assert chat.ask([picture], QUESTION, max_new_tokens=0).answer() == ""


def test_a_follow_up_is_the_conversation_of_the_chat_template(chat: ProbedChat, picture: LoadedImage) -> None:
    """Answer and entropy are those of transformers on it, token by token."""
    loaded = chat.loaded
    first = chat.ask([picture], "What colour is the circle?")
    history = (("What colour is the circle?", first.answer()),)
    asked = chat.ask([picture], QUESTION, history, max_new_tokens=6)
    assert asked.follow_up and not first.follow_up
    content = [{"type": "image", "image": picture.pixels}, {"type": "text", "text": history[0][0]}]
    turns = [{"role": "user", "content": content}, {"role": "assistant", "content": history[0][1]}]
    turns.append({"role": "user", "content": QUESTION})
    inputs = loaded.checkpoint.processor.apply_chat_template(
        turns, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert asked.prompt_tokens == inputs["input_ids"].shape[1]
    with torch.no_grad():
        logits = loaded.model(**inputs).logits[0, -1]
    assert asked.first_token_entropy == pytest.approx(
        float(torch.distributions.Categorical(logits=logits).entropy()), abs=1e-5
    )
    sequence = loaded.model.generate(**inputs, do_sample=False, max_new_tokens=6)[0, asked.prompt_tokens :]
    streamed = "".join(asked.stream())
    assert asked.token_ids == tuple(sequence.tolist())
    assert streamed == loaded.checkpoint.processor.tokenizer.decode(sequence, skip_special_tokens=True).strip()
    again = chat.ask([picture], QUESTION, max_new_tokens=6)
    assert again.risks != asked.risks


def test_a_question_may_wait_for_its_answer(chat: ProbedChat, demo: tuple[Shards, Path]) -> None:
    """Others are asked and answered meanwhile; an answer that was broken off goes on where it was."""
    images = demo[1]
    pictures = [load_image(images / f"scene_{seed:06d}.png") for seed in (1, 2, 3)]
    alone = [chat.ask([shown], QUESTION).answer() for shown in pictures]
    kept = [chat.ask([shown], QUESTION) for shown in pictures]
    begun = kept[1].stream()
    next(begun)
    assert [kept[2].answer(), kept[0].answer(), kept[1].answer()] == [alone[2], alone[0], alone[1]]
    with pytest.raises(InputError, match="streamed already"):
        kept[1].stream()


def test_threads_wait_for_each_other(chat: ProbedChat, demo: tuple[Shards, Path]) -> None:
    """Hooks read whatever runs through the model: without a guard risks would be those of another thread's tokens."""
    shards, images = demo
    rows = range(0, 96, 8)
    shown = {row: load_image(images / shards.text("image_id")[row]) for row in rows}

    def ask(row: int) -> tuple[ProbedReply, str]:
        asked = chat.ask([shown[row]], shards.text("question")[row])
        return asked, "".join(asked.stream())

    alone, found = {row: ask(row) for row in rows}, {}

    def work(mine: list[int]) -> None:
        found.update({row: ask(row) for row in mine})

    threads = [threading.Thread(target=work, args=(list(rows)[k::4],)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == set(rows)
    for row in rows:
        assert found[row][1] == alone[row][1]
        assert found[row][0].risks == pytest.approx(alone[row][0].risks, abs=1e-6)


def changed(probe: SavedProbe, **card: object) -> SavedProbe:
    return replace(probe, metadata={**probe.metadata, **card})


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"max_pixels": 3136}, "max_pixels is 12544 for one and 3136 for"),
        ({"system_prompt": "Be brief."}, "system_prompt is none for one and 'Be brief.'"),
        ({"prompt_date": "2026-01-02"}, "prompt_date is none for one and '2026-01-02'"),
        ({"template_options": '{"a": 1}', "min_pixels": 1}, "template_options is .*; min_pixels is 3136 for one and 1"),
        ({"prompt": "question alone"}, "prompt is .image, then question.* and 'question alone'"),
    ],
)
def test_probes_of_prompts_that_were_made_otherwise_are_refused(
    chat: ProbedChat, card: dict[str, object], message: str
) -> None:
    one, *_, other = chat.probes.values()
    with pytest.raises(InputError, match=f"'one' and 'other' were trained on prompts .*{message}"):
        ProbedChat(chat.loaded, {"one": one, "other": changed(other, **card)})


def test_every_probe_must_fit_the_model(chat: ProbedChat) -> None:
    probes = dict(chat.probes)
    last = list(probes)[-1]
    for card, message in (
        ({"revision": "local-0"}, "revision is 'local-0'"),
        ({"chat_template_sha256": "0"}, "template"),
    ):
        wrong = {**probes, last: changed(probes[last], **card)}
        with pytest.raises(InputError, match=message):
            ProbedChat(chat.loaded, wrong)
        assert set(ProbedChat(chat.loaded, wrong, allow_other_model=True).probes) == set(probes)
    with pytest.raises(InputError, match="pass the model that it was trained on"):
        ProbedChat(tiny_model("llava"), probes, allow_other_model=True)


def test_what_cannot_be_asked_is_refused(chat: ProbedChat, picture: LoadedImage) -> None:
    for images, question, history, message in (
        ([picture], " ", (), "blank question"),
        ([], QUESTION, (), "this one shows none"),
        ([picture], "<|image_pad|>", (), "question holds the model's special token"),
        ([picture], QUESTION, ((QUESTION, "<|im_end|>"),), "answer of turn 1 holds the model's special token"),
        ([picture], QUESTION, ((QUESTION, "no " * 2000),), "the model takes 1024"),
    ):
        with pytest.raises(InputError, match=message):
            chat.ask(images, question, history)
    with pytest.raises(PromptError, match="the model takes 1024"):
        chat.ask([picture], QUESTION, max_new_tokens=1020)


def test_a_state_that_is_not_finite_has_no_risk(chat: ProbedChat, picture: LoadedImage) -> None:
    block = chat.loaded.checkpoint.family.blocks(chat.loaded.model)[4]
    hook = block.register_forward_hook(lambda _module, _args, output: output * np.nan)
    try:
        with pytest.raises(InputError, match=r"_representation/layer_[45] reads of the model is not finite"):
            chat.ask([picture], QUESTION)
    finally:
        hook.remove()


def test_without_probes_it_only_answers(picture: LoadedImage) -> None:
    loaded = tiny_model("llava")
    chat = ProbedChat(loaded, {})
    asked = chat.ask([picture], QUESTION, max_new_tokens=5)
    assert asked.risks == {} and asked.first_token_entropy > 0
    assert chat.ask([], QUESTION, ((QUESTION, "no"),), max_new_tokens=5).answer() != ""
    assert len(asked.token_ids) == 0 and asked.answer() and 0 < len(asked.token_ids) <= 5


def test_probes_of_text_alone_are_asked_text_alone(tmp_path: Path, picture: LoadedImage) -> None:
    loaded = tiny_model("llava")
    settings = run_settings(loaded, Prompter(checkpoint=loaded.checkpoint), CaptureSpec((3,), 0), text_only=True)
    card = vectors_card("query_token_representation/layer_3", shard_attributes(loaded, settings, prefix_shared=False))
    x = np.random.default_rng(0).standard_normal((20, 32))
    save_probe(tmp_path / "text", LinearProbe(Cs=(1.0,)).fit(x, x[:, 0] > 0), card)
    chat = ProbedChat(loaded, load_probes(tmp_path))
    assert 0 < chat.ask([], QUESTION, ((QUESTION, "no"),)).risks["text"] < 1
    with pytest.raises(InputError, match="pass no image"):
        chat.ask([picture], QUESTION)


def test_probes_are_loaded_from_either_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "trained" / "probes"
    shutil.copytree(BUNDLED_PROBES, inside)
    (tmp_path / "trained" / "report.json").write_text("{}")
    (inside / "notes.json").write_text('{"format": "mine"}')
    shutil.copy(inside / "selected_probe.json", inside / "a.dotted.name.json")
    shutil.copy(inside / "selected_probe.safetensors", inside / "a.dotted.name.safetensors")
    found = load_probes(tmp_path / "trained")
    assert list(found) == list(load_probes(inside)) == ["selected_probe", *sorted(set(found) - {"selected_probe"})]
    assert set(found) == {*load_probes("shapes"), "a.dotted.name"} and len(found) == 14
    x = np.random.default_rng(0).standard_normal((5, 128))
    assert np.array_equal(found["selected_probe"].risk(x), load_probe("shapes").risk(x))
    for stem, probe in found.items():
        assert probe.metadata == load_probe(inside / f"{stem}.json").metadata
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapes").mkdir()
    assert len(load_probes("shapes")) == len(load_probes(Path("shapes"))) == 13


def test_folders_without_whole_probes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="holds no probe; pass the `output_dir`"):
        load_probes(tmp_path / "none")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ProbeError, match="holds no probe"):
        load_probes(tmp_path)
    for suffix in (".json", ".safetensors"):
        folder = tmp_path / suffix[1:]
        shutil.copytree(BUNDLED_PROBES, folder)
        (folder / f"vision_only_representation{suffix}").unlink()
        with pytest.raises(ProbeError, match=rf"vision_only_representation{re.escape(suffix)} cannot be read"):
            load_probes(folder)


def test_the_bundled_threshold_is_every_user_s() -> None:
    probe, before = load_probe("shapes"), (BUNDLED_PROBES / "selected_probe.json").read_bytes()
    assert probe.threshold is not None
    with pytest.raises(ProbeError, match="keeps its threshold"):
        set_threshold("shapes", probe.threshold)
    assert (BUNDLED_PROBES / "selected_probe.json").read_bytes() == before


def test_the_bundled_probes_fit_the_bundled_model(shapes: LoadedModel) -> None:
    probes = load_probes("shapes")
    layers = {layer_of(probe.metadata["representation"]) for probe in probes.values()}
    assert layers == {None, 0, 1, 3, 4, 5} and len(probes) == 13
    for probe in probes.values():
        check_fits(probe, shapes)
        assert probe.metadata["model_name"] == "shapes" and probe.metadata["training"]["images"] == 1500
        assert probe.threshold is not None and probe.threshold.max_error == 0.1
        told = json.dumps(probe.metadata)
        assert not re.search(r'"[^"]*[/\\](tmp|home|root|work|Users)\b', told) and ":\\\\" not in told
    files = list(BUNDLED_PROBES.iterdir())
    assert len(files) == 26 and sum(path.stat().st_size for path in files) < 400e3


def test_the_bundled_probe_tells_errors_on_the_demo_s_scenes(demo: tuple[Shards, Path]) -> None:
    """Which it was not trained on: it ranks them, its risks are frequencies, and its threshold keeps what it says.

    About: these happen to be harder than most, by a mean difficulty of .84 against .74.
    """
    shards, probe = demo[0], load_probe("shapes")
    assert not np.isin(image_keys(shards.text("image_sha256")), probe.training_images).any()
    wrong, risk = is_wrong(shards), probe.risk(shards.vectors(probe.metadata["representation"]))
    assert roc_auc_score(wrong, risk) > 0.8
    assert abs(risk.mean() - wrong.mean()) < 0.06
    for part in np.array_split(np.argsort(risk), 4):
        assert abs(risk[part].mean() - wrong[part].mean()) < 0.1
    assert probe.threshold is not None
    answered = risk <= probe.threshold.risk
    assert 0.7 < answered.mean() < 1 and abs(wrong[answered].mean() - 0.1) < 0.06
    assert wrong[~answered].mean() > 0.4
