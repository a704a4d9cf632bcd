"""Whether prefixes may be shared is tried, not assumed; what must not share runs one by one and stays exact."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import tiny_model

from halp_probe.cli import run_script
from halp_probe.extraction import sharing
from halp_probe.extraction.engine import Engine
from halp_probe.extraction.images import LoadedImage
from halp_probe.extraction.prefill import Prefiller
from halp_probe.extraction.prefix import by_image, common_prefix, shared_tokens
from halp_probe.extraction.preparing import Preparer
from halp_probe.extraction.prompting import Prompt, Prompter
from halp_probe.extraction.sharing import try_sharing
from halp_probe.models.loading import LoadedModel
from halp_probe.records import CaptureSpec, Sample
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.reader import open_shards

LAYERS = (0, 3, 5)
QUESTIONS = ("Is there a red circle?", "What colour is the square?", "How many shapes are there in all?")


@pytest.fixture(scope="module")
def images_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(5)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 255, (112, 112, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def samples(image: str, *questions: str) -> list[Sample]:
    return [Sample(f"{image}{k}", f"{image}.png", question, "") for k, question in enumerate(questions)]


def tried(loaded: LoadedModel, images_dir: Path, *groups: list[Sample]) -> sharing.Sharing:
    return try_sharing(loaded, LAYERS, Preparer(Prompter(loaded.checkpoint), images_dir), groups)


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava", "gemma3"])
def test_families_that_share(name: str, images_dir: Path) -> None:
    found = tried(tiny_model(name), images_dir, samples("a", *QUESTIONS))
    assert found.shared and found.reason == ""
    assert found.difference is not None and 0 < found.difference < 1e-5


def test_the_first_image_with_several_good_questions_is_tried(images_dir: Path) -> None:
    alone, broken = samples("a", QUESTIONS[0]), samples("broken", *QUESTIONS)
    same, special = samples("a", *QUESTIONS[:1] * 3), samples("a", QUESTIONS[0], "What is <|image_pad|>?")
    loaded = tiny_model("qwen2_5_vl")
    nothing = tried(loaded, images_dir, alone, broken, same, special)
    assert nothing == sharing.Sharing(False, None, "no image has two questions")
    assert tried(loaded, images_dir, alone, broken, same, special, samples("b", *QUESTIONS)).shared


@pytest.mark.parametrize("name", ["paligemma", "paligemma2"])
def test_a_prefix_lm_is_told_by_the_table_and_found_without_it(name: str, images_dir: Path) -> None:
    loaded = tiny_model(name)
    declared = tried(loaded, images_dir, samples("a", *QUESTIONS))
    assert not declared.shared and declared.difference is None and "prefix-LM" in declared.reason
    measured = tried(without_declaration(loaded), images_dir, samples("a", *QUESTIONS))
    assert not measured.shared and measured.difference is not None and measured.difference > 1e-3
    assert "states with it differ by" in measured.reason and "allowed 0.0001" in measured.reason


def without_declaration(loaded: LoadedModel) -> LoadedModel:
    family = replace(loaded.checkpoint.family, prefix_lm=False)
    return LoadedModel(replace(loaded.checkpoint, family=family), loaded.model)


def test_bfloat16_is_judged_by_cosine(images_dir: Path) -> None:
    loaded = tiny_model("qwen2_5_vl")
    half = LoadedModel(loaded.checkpoint, loaded.model.bfloat16())
    found = tried(half, images_dir, samples("a", *QUESTIONS))
    assert found.shared and found.difference is not None and found.difference < 1e-3
    family = tiny_model("paligemma")
    wrong = LoadedModel(without_declaration(family).checkpoint, family.model.bfloat16())
    assert "1 - cosine" in tried(wrong, images_dir, samples("a", *QUESTIONS)).reason


def test_a_template_with_the_question_first_is_not_shared(images_dir: Path) -> None:
    loaded = tiny_model("llava")
    loaded.checkpoint.processor.chat_template = (
        "{% for m in messages %}{{ m['content'][1]['text'] }} <image> Answer:{% endfor %}"
    )
    found = tried(loaded, images_dir, samples("a", *QUESTIONS))
    assert not found.shared and "share" in found.reason and "the image ends after" in found.reason


def test_a_difference_in_one_state_is_seen(images_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Suffix positions that are off by one, as the model's own mutable state would give them."""
    prefixes = Prefiller._prefixes

    def shifted(self: Prefiller, groups: list[list[Prompt]], seen: object) -> object:
        made = prefixes(self, groups, seen)
        return replace(made, next_position=made.next_position + 1)

    monkeypatch.setattr(Prefiller, "_prefixes", shifted)
    assert not tried(tiny_model("qwen2_5_vl"), images_dir, samples("a", *QUESTIONS)).shared


def test_out_of_memory_while_trying(images_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("pretended")

    monkeypatch.setattr(Prefiller, "whole", full)
    found = tried(tiny_model("qwen2_5_vl"), images_dir, samples("a", *QUESTIONS))
    assert not found.shared and "do not fit the device's memory" in found.reason


def test_a_sliding_window_that_padding_could_shorten_is_not_shared(images_dir: Path) -> None:
    """Gemma 3 counts its window in columns of the cache, padding included."""
    loaded = tiny_model("gemma3")
    assert loaded.model.config.text_config.sliding_window == 256
    prompter = Prompter(loaded.checkpoint)
    picture = LoadedImage(Image.open(images_dir / "a.png").convert("RGB"), "a")

    def widths(words: int) -> list[int]:
        seen: list[int] = []
        block = loaded.checkpoint.family.blocks(loaded.model)[0]
        hook = block.register_forward_pre_hook(lambda _m, args: seen.append(args[0].shape[1]))
        prompts = [
            prompter.prompt(sample, picture) for sample in samples("a", *(q + " again" * words for q in QUESTIONS))
        ]
        rows = Engine(loaded, CaptureSpec(LAYERS, 0), share_prefix=True).run(prompts)
        hook.remove()
        singles = [Engine(loaded, CaptureSpec(LAYERS, 0)).run([prompt])[0] for prompt in prompts]
        for row, single in zip(rows, singles, strict=True):
            for layer in LAYERS:
                scale = np.abs(single.query_token[layer]).max()
                assert np.abs(row.query_token[layer] - single.query_token[layer]).max() <= 1e-5 * scale
        return seen

    assert len(widths(1)) == 2  # a prefix, then suffixes
    assert len(widths(60)) == 1


def test_pure_parts() -> None:
    assert common_prefix([np.array([1, 2, 3]), np.array([1, 2, 4, 5]), np.array([1, 2, 3, 4])]) == 2
    assert common_prefix([np.array([1, 2]), np.array([1, 2, 3])]) == 2
    assert common_prefix([np.array([5]), np.array([6])]) == 0
    loaded = tiny_model("qwen2_5_vl")
    prompter = Prompter(loaded.checkpoint)
    white, black = (LoadedImage(Image.new("RGB", (64, 64), colour), colour) for colour in ("white", "black"))
    on_white, on_black, again = (
        prompter.prompt(Sample(str(k), "", question, ""), image)
        for k, (image, question) in enumerate([(white, QUESTIONS[0]), (black, QUESTIONS[1]), (white, QUESTIONS[0])])
    )
    images = by_image([on_white, on_black, again])
    assert (images.rows, images.image_of, images.first_rows) == ([[0, 2], [1]], [0, 1, 0], [0, 1])
    assert shared_tokens([on_white]) == on_white.positions.vision_index + 1
    assert shared_tokens([on_white, again]) == on_white.positions.query_index  # the query token is never shared
    with pytest.raises(ValueError, match="different pixels"):
        by_image([on_white, replace(on_black, image_sha256=on_white.image_sha256)])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, n_scenes=6, questions_a_scene=5, seed=700)
    return folder


def extract(data: Path, output: Path, *more: str) -> int:
    call = ["--vqa-dataset", str(data / "vqa.csv"), "--images-dir", str(data / "images"), "--model", "shapes"]
    return run_script("extract", None, [*call, "--output-dir", str(output), "--max-new-tokens", "8", *more])


def test_a_run_records_what_it_found_and_goes_on_in_the_same_way(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert extract(data, tmp_path / "shared", "--test") == 0
    recorded = json.loads((tmp_path / "shared" / "run.json").read_text())["prefix_sharing"]
    assert recorded["shared"] and 0 < recorded["difference"] < 1e-5
    monkeypatch.setattr(sharing, "_TOLERANCE", {torch.float32: 0.0})
    assert extract(data, tmp_path / "shared") == 0  # recorded, so not tried again
    assert "one by one" not in capsys.readouterr().err
    assert open_shards(tmp_path / "shared").attributes["prefix_shared"]
    assert extract(data, tmp_path / "alone") == 0
    assert "Questions on one image run one by one: states with it differ by" in capsys.readouterr().err
    assert not open_shards(tmp_path / "alone").attributes["prefix_shared"]
    assert extract(data, tmp_path / "off", "--no-prefix-sharing") == 0
    assert not open_shards(tmp_path / "off").attributes["prefix_shared"]
    shared, *others = (open_shards(tmp_path / name) for name in ("shared", "alone", "off"))
    for other in others:
        assert shared.question_ids == other.question_ids and shared.text("answer") == other.text("answer")
        for name in shared.representations:
            a, b = shared.vectors(name), other.vectors(name)
            assert (np.abs(a - b).max(1) <= 1e-5 * np.abs(b).max(1)).all()


def test_one_content_under_two_names_is_one_image(data: Path, tmp_path: Path) -> None:
    """Their rows stand together in the run's order, and their picture is seen once."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, source in (("one.png", 0), ("other.png", 1), ("copy.png", 0), ("tail.png", 2)):
        (folder / name).write_bytes((data / "images" / f"scene_00070{source}.png").read_bytes())
    rows = [
        f"{image[:-4]}{k},{image},{question},x"
        for image in ("one.png", "other.png", "copy.png", "tail.png")
        for k, question in enumerate(QUESTIONS[:2])
    ]
    (tmp_path / "vqa.csv").write_text("\n".join(["question_id,image_id,question,answer", *rows]) + "\n")
    assert extract(tmp_path, tmp_path / "out") == 0
    shards = open_shards(tmp_path / "out")
    assert shards.question_ids == ("one0", "one1", "copy0", "copy1", "other0", "other1", "tail0", "tail1")
    states = dict(zip(shards.question_ids, shards.vectors("vision_token_representation/layer_3"), strict=True))
    assert np.array_equal(states["one0"], states["copy1"]) and not np.array_equal(states["one0"], states["other0"])
