"""ShapesVQA: truths follow from the scene, training is exact and resumable, the bundled model sees."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from halp_probe.cli import main, run_script
from halp_probe.models.loading import BUNDLED_FOLDER, load_weights, open_checkpoint
from halp_probe.shapes import questions, scenes
from halp_probe.shapes.dataset import FIRST_TRAINING_SEED, write_dataset
from halp_probe.shapes.model import build_model, build_processor
from halp_probe.shapes.train import TrainConfig, embed_images, pack, packed_loss, train
from halp_probe.shards.reader import open_shards

SEEDS = st.integers(0, 10**9)


@given(SEEDS)
def test_a_scene_is_a_function_of_its_seed(seed: int) -> None:
    scene = scenes.make_scene(seed)
    assert scene == scenes.make_scene(seed)
    assert 1 <= len(scene.things) <= scenes.MAX_THINGS
    picture = scenes.render(scene)
    assert picture.size == (scenes.SIDE, scenes.SIDE) and picture.mode == "RGB"
    assert picture.tobytes() == scenes.render(scene).tobytes()


@given(SEEDS)
def test_answers_are_true(seed: int) -> None:
    """Judged from the scene's list of things by the words of the question, not by the generator's own path."""
    things = [(thing.colour, thing.shape) for thing in scenes.make_scene(seed).things]
    asked = questions.ask(scenes.make_scene(seed), 6)
    assert len({question.text for question in asked}) == len(asked)
    for question in asked:
        words = question.text.rstrip("?").split()
        colour = next((word for word in words if word in scenes.COLOURS), None)
        shape = next((s for s in scenes.SHAPES for word in words if word in (s, s + "s", s + "es")), None)
        matching = [t for t in things if colour in (None, t[0]) and shape in (None, t[1])]
        if words[0] == "Is":
            assert question.answer == ("yes" if matching else "no")
        elif words[0] == "How":
            assert question.answer == str(len(matching))
        elif question.kind == "false_premise":
            assert not matching and question.answer == questions.NOTHING
        else:
            (only,) = matching
            assert question.answer == (only[0] if "colour" in words else only[1])


def test_truths_are_balanced() -> None:
    asked = [q for seed in range(400) for q in questions.ask(scenes.make_scene(seed), 6)]
    kinds = Counter(q.kind for q in asked)
    assert set(kinds) == set(questions.KINDS)
    yes = np.mean([q.answer == "yes" for q in asked if q.kind == "exists"])
    assert 0.4 < yes < 0.6
    assert all(share < 0.3 for share in (n / len(asked) for n in Counter(q.answer for q in asked).values()))


def test_a_hard_scene_is_harder_to_see() -> None:
    """Difficulty acts on the picture: things are smaller and stand out less."""
    drawn = [scenes.make_scene(seed) for seed in range(500)]
    easy = [t for s in drawn if s.difficulty < 0.3 for t in s.things]
    hard = [t for s in drawn if s.difficulty > 0.7 for t in s.things]
    assert np.mean([t.radius for t in easy]) > 1.4 * np.mean([t.radius for t in hard])
    assert np.mean([t.contrast for t in easy]) > 1.5 * np.mean([t.contrast for t in hard])


def test_the_data_set_is_reproducible_and_disjoint_from_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        assert main(["shapes", "--output-dir", str(tmp_path / name), "--scenes", "5", "--seed", "3"]) == 0
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 6
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    with (tmp_path / "a" / "vqa.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30 and len({row["question_id"] for row in rows}) == 30
    last = str(FIRST_TRAINING_SEED - 4)
    assert main(["shapes", "--output-dir", str(tmp_path / "c"), "--scenes", "5", "--seed", last]) == 2
    assert "trained the bundled model" in capsys.readouterr().err


def test_every_word_is_in_the_vocabulary() -> None:
    tokenizer = build_processor().tokenizer
    for text in questions.every_text():
        assert tokenizer.decode(tokenizer(text).input_ids) == text
        assert len(tokenizer(text).input_ids) <= 12
    odd = "日本語 ½ <b>\n\tnaïve"
    assert tokenizer.decode(tokenizer(odd).input_ids) == odd


def test_packed_loss_equals_single_prompts() -> None:
    """Packing many questions behind one image prefix is the same as asking them one by one."""
    torch.manual_seed(0)
    processor = build_processor()
    model = build_model(processor).eval()
    batch = pack(processor, [11, 12], 4)
    single: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    with torch.no_grad():
        packed = packed_loss(model, embed_images(model, batch), batch, caption_weight=0.5)
        for seed in (11, 12):
            scene = scenes.make_scene(seed, scenes.MILD)
            asked = [(q.text, q.answer) for q in questions.ask(scene, 4)]
            for text, answer in [*asked, (questions.CAPTION_PROMPT, scenes.caption(scene))]:
                content = [{"type": "image"}, {"type": "text", "text": text}]
                prompt = processor.apply_chat_template(
                    [{"role": "user", "content": content}], add_generation_prompt=True
                )
                picture = scenes.render(scene)
                asked_length = processor(text=[prompt], images=[picture], return_tensors="pt").input_ids.shape[1]
                whole = processor(text=[prompt + answer + "<|im_end|>"], images=[picture], return_tensors="pt")
                logits = model(**whole).logits[0]
                targets = whole.input_ids[0, asked_length:]
                losses = cross_entropy(logits[asked_length - 1 : -1], targets, reduction="none")
                single[text == questions.CAPTION_PROMPT].append(losses)
    expected = torch.cat(single[False]).mean() + 0.5 * torch.cat(single[True]).mean()
    assert packed.item() == pytest.approx(expected.item(), rel=1e-5)


def test_interrupted_training_ends_as_uninterrupted(tmp_path: Path) -> None:
    config = TrainConfig(steps=4, scenes_a_step=2, questions_a_scene=2)
    whole = train(config, tmp_path / "whole", workers=0)
    first = train(config, tmp_path / "parts", stop_after=2, workers=0)
    second = train(config, tmp_path / "parts", workers=0)
    assert first + second == whole
    names = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("whole", "parts")]
    assert names[0] == names[1]
    with pytest.raises(ValueError, match="another run"):
        train(TrainConfig(steps=5, scenes_a_step=2, questions_a_scene=2), tmp_path / "parts", workers=0)


def test_the_bundled_model_is_small_and_its_own() -> None:
    files = list(BUNDLED_FOLDER.iterdir())
    assert sum(path.stat().st_size for path in files) <= 8e6
    checkpoint = open_checkpoint("shapes")
    assert checkpoint.model_type == "qwen2_5_vl" and load_weights(checkpoint).num_layers == 6
    assert type(checkpoint.processor).__name__ == "Qwen2_5_VLProcessor"
    fresh = build_processor()
    assert checkpoint.processor.chat_template == fresh.chat_template
    assert checkpoint.processor.tokenizer.get_vocab() == fresh.tokenizer.get_vocab()
    architecture = json.loads((BUNDLED_FOLDER / "config.json").read_text())["architectures"]
    assert architecture == ["Qwen2_5_VLForConditionalGeneration"]


def test_the_bundled_model_sees_what_is_easy_to_see(tmp_path: Path) -> None:
    """On held-out scenes: right far more often on easy pictures than on hard ones, and 65 to 90 % over all."""
    write_dataset(tmp_path, n_scenes=150, seed=5000)
    arguments = ["--vqa-dataset", str(tmp_path / "vqa.csv"), "--images-dir", str(tmp_path / "images")]
    arguments += ["--model", "shapes", "--output-dir", str(tmp_path / "out"), "--max-new-tokens", "8"]
    assert run_script("extract", None, arguments) == 0
    shards = open_shards(tmp_path / "out")
    right = np.array([a == t for a, t in zip(shards.text("answer"), shards.text("ground_truth_answer"), strict=True)])
    difficulty = np.array([float(value) for value in shards.text("difficulty")])
    assert 0.65 <= right.mean() <= 0.90
    assert right[difficulty < 0.5].mean() > 0.9 > 0.7 > right[difficulty > 1.1].mean()
