"""Pictures that a vision tower fails on are failures of their own; the others of their batch are captured as ever."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import tiny_model

from halp_probe.cli import run_script
from halp_probe.engine.engine import Engine
from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prompting import Prompter
from halp_probe.engine.vision import VisionError
from halp_probe.records import CaptureSpec, Sample
from halp_probe.shards.reader import open_shards

SIZES = {"tiny": (20, 20), "wide": (120, 60), "square": (90, 90)}  # the first becomes one image token


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
    shards, reference = open_shards(tmp_path / "out"), open_shards(tmp_path / "ref")
    assert shards.question_ids == reference.question_ids == ("wide0", "wide1", "square0", "square1")
    assert shards.attributes["prefix_shared"]  # tried on the first picture that can be looked at
    assert shards.text("answer") == reference.text("answer")
    for name in reference.representations:
        a, b = shards.vectors(name), reference.vectors(name)
        assert (np.abs(a - b).max(1) <= 1e-5 * np.abs(b).max(1)).all()


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
