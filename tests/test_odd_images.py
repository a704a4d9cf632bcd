"""Pictures that a vision tower fails on are failures of their own; the others of their batch are captured as ever."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import tiny_model

import halp_probe
from halp_probe.cli import run_script
from halp_probe.engine.engine import Engine
from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prompt_errors import concerns_one_prompt
from halp_probe.engine.prompting import Prompter
from halp_probe.engine.vision import VisionError
from halp_probe.errors import InputError
from halp_probe.models.loading import LoadedModel
from halp_probe.records import CaptureSpec, Sample
from halp_probe.shards.reader import open_shards

SIZES = {
    "tiny": (20, 20),
    "wide": (120, 60),
    "square": (90, 90),
    "thin": (640, 16),
}  # the first becomes one image token


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    loaded = tiny_model("mistral3")
    loaded.model.save_pretrained(folder)
    loaded.checkpoint.processor.save_pretrained(folder)
    return folder


def table(folder: Path, names: list[str]) -> list[str]:
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in names:
        pixels = rng.integers(0, 255, size=(*SIZES[name][::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
    rows = [f"{name}{k},{name}.png,{question},x" for name in names for k, question in enumerate(("Why?", "Is it so?"))]
    (folder / "vqa.csv").write_text("\n".join(["question_id,image_id,question,answer", *rows]) + "\n")
    return ["--vqa-dataset", str(folder / "vqa.csv"), "--images-dir", str(folder / "images"), "--max-new-tokens", "3"]


def test_one_odd_picture_costs_its_own_questions_alone(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = [*table(tmp_path, ["tiny", "wide", "square"]), "--model", str(model), "--output-dir", str(tmp_path / "out")]
    for _ in range(2):  # tried again by the next run, which ends as well
        assert run_script("extract", None, call) == 0
        with (tmp_path / "out" / "failures.csv").open() as file:
            failures = list(csv.DictReader(file))
        assert [(row["question_id"], row["stage"]) for row in failures] == [("tiny0", "forward"), ("tiny1", "forward")]
        assert all("vision tower fails on this image" in row["reason"] for row in failures)
    alone = [
        *table(tmp_path / "good", ["wide", "square"]),
        "--model",
        str(model),
        "--output-dir",
        str(tmp_path / "ref"),
    ]
    for name in ("wide", "square"):  # the very same files
        (tmp_path / "good" / "images" / f"{name}.png").write_bytes((tmp_path / "images" / f"{name}.png").read_bytes())
    assert run_script("extract", None, alone) == 0
    assert_same(tmp_path / "out", tmp_path / "ref")
    shards = open_shards(tmp_path / "out")
    assert shards.question_ids == ("wide0", "wide1", "square0", "square1")
    assert shards.attributes["prefix_shared"]  # tried on the first picture that can be looked at


def test_the_error_names_the_picture() -> None:
    loaded = tiny_model("mistral3")
    prompter = Prompter(checkpoint=loaded.checkpoint)
    prompts = [
        prompter.prompt(
            Sample(question_id=name, image_id="", question="Why?", answer=""), LoadedImage(Image.new("RGB", size), name)
        )
        for name, size in SIZES.items()
    ]
    with pytest.raises(VisionError, match="resize it, or leave it out") as error:
        Engine(loaded, CaptureSpec((0,), 0)).run(prompts)
    assert error.value.image_sha256 == "tiny"


def save(name: str, folder: Path) -> Path:
    loaded = tiny_model(name)
    loaded.model.save_pretrained(folder)
    loaded.checkpoint.processor.save_pretrained(folder)
    return folder


def test_a_picture_that_the_processor_cannot_take_costs_its_own_questions_alone(tmp_path: Path) -> None:
    """LFM2-VL's raises a RuntimeError of torch, about shapes, for 640 × 16 pixels."""
    model = save("lfm2_vl", tmp_path / "model")
    call = [*table(tmp_path / "all", ["wide", "thin", "square"]), "--model", str(model)]
    alone = [*table(tmp_path / "good", ["wide", "square"]), "--model", str(model)]
    for name in ("wide", "square"):
        (tmp_path / "good/images" / f"{name}.png").write_bytes((tmp_path / f"all/images/{name}.png").read_bytes())
    assert run_script("extract", None, [*call, "--output-dir", str(tmp_path / "out")]) == 0
    assert run_script("extract", None, [*alone, "--output-dir", str(tmp_path / "ref")]) == 0
    with (tmp_path / "out" / "failures.csv").open() as file:
        failures = list(csv.DictReader(file))
    assert [(row["question_id"], row["stage"]) for row in failures] == [("thin0", "prompt"), ("thin1", "prompt")]
    for row in failures:
        assert row["reason"].startswith(
            "thin.png: the processor refuses an image of 640×16 or its prompt: RuntimeError"
        )
        assert row["reason"].endswith("crop or enlarge the image, or leave it out")
    assert_same(tmp_path / "out", tmp_path / "ref")


def assert_same(folder: Path, other: Path) -> None:
    shards, reference = open_shards(folder), open_shards(other)
    assert shards.question_ids == reference.question_ids and shards.text("answer") == reference.text("answer")
    for name in reference.representations:
        a, b = shards.vectors(name), reference.vectors(name)
        assert (np.abs(a - b).max(1) <= 1e-5 * np.abs(b).max(1)).all()


def failing(name: str, word: str) -> LoadedModel:
    """A model whose code has a bug for prompts with this word: a KeyError in the decoder."""
    loaded = tiny_model(name)
    (token,) = loaded.checkpoint.processor.tokenizer.encode(word, add_special_tokens=False)[:1]

    def fail(_module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        if (inputs[0] == token).any():
            raise KeyError("no such shape")

    loaded.model.get_input_embeddings().register_forward_pre_hook(fail)
    return loaded


def rows(words: list[str]) -> list[dict[str, str]]:
    shown = [("wide.png", "square.png")[k % 2] for k in range(len(words))]
    return [
        {"question_id": f"q{k}", "image_id": image, "question": word, "answer": "x"}
        for k, (image, word) in enumerate(zip(shown, words, strict=True))
    ]


def test_a_prompt_that_the_model_fails_on_costs_itself_alone(tmp_path: Path) -> None:
    table(tmp_path, ["wide", "square"])
    words = [*["red blue"] * 5, "zebra", *["blue blue"] * 5]
    loaded = failing("qwen2_5_vl", "z")
    call = {"images_dir": tmp_path / "images", "model": loaded, "max_new_tokens": 3}
    for _ in range(2):  # the rerun has nothing but the failure
        run = halp_probe.extract(rows(words), output_dir=tmp_path / "out", **call)
        (failure,) = run.failures
        assert (failure.question_id, failure.stage) == ("q5", "forward")
        assert "the model fails on this prompt: KeyError: 'no such shape'; resize the image, or leave" in failure.reason
    good = [row for row in rows(words) if row["question_id"] != "q5"]
    halp_probe.extract(good, output_dir=tmp_path / "ref", **call)
    assert_same(tmp_path / "out", tmp_path / "ref")


def test_a_model_that_fails_on_all_prompts_ends_the_run(tmp_path: Path) -> None:
    """After a few, not after ten thousand failures."""
    table(tmp_path, ["wide", "square"])
    loaded = failing("qwen2_5_vl", "z")
    with pytest.raises(KeyError, match="no such shape"):
        halp_probe.extract(rows(["zebra"] * 20), tmp_path / "images", tmp_path / "out", model=loaded, max_new_tokens=3)


def test_errors_that_are_no_prompts_fault_end_the_run() -> None:
    for error in (MemoryError(), ImportError("x"), InputError("x"), torch.OutOfMemoryError("x")):
        assert not concerns_one_prompt(error)
    for other in (RuntimeError("x"), KeyError("x"), ZeroDivisionError(), AssertionError(), TypeError()):
        assert concerns_one_prompt(other)
