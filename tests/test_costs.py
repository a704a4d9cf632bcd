"""What a run will cost is told before it, and what does not fit is one failure row."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import tiny_model

from halp_probe.engine import sharing
from halp_probe.engine.engine import Engine
from halp_probe.engine.images import load_image
from halp_probe.engine.preparing import Preparer
from halp_probe.engine.prompting import Prompt, Prompter
from halp_probe.engine.sharing import try_sharing
from halp_probe.errors import InputError
from halp_probe.extraction.costs import estimate
from halp_probe.extraction.extract import extract
from halp_probe.models.cpu_memory import report_no_memory
from halp_probe.models.loading import load_weights, open_checkpoint
from halp_probe.records import CaptureSpec, Sample

pytestmark = pytest.mark.slow

WIDTHS = {"small": 56, "middle": 84, "large": 112}


@pytest.fixture
def images_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, width in WIDTHS.items():
        Image.fromarray(rng.integers(0, 255, (112, width, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


def samples(*names: str, questions: int = 3) -> list[list[Sample]]:
    return [
        [
            Sample(question_id=f"{name} {k}", image_id=f"{name}.png", question="Is it red?" + " Say." * k, answer="no")
            for k in range(questions)
        ]
        for name in names
    ]


def test_the_largest_and_the_typical_prompt_are_told(images_dir: Path) -> None:
    """The longest question on the image of largest and of median area, by prompts made one by one."""
    prompter = Prompter(checkpoint=open_checkpoint("shapes"))
    cost = estimate(
        Preparer(prompter, images_dir), samples("large", "small", "middle"), vectors=1500, token_budget=60,
        store_dtype="float16", question_view=True,
    )  # fmt: skip
    for found, name in ((cost.largest, "large"), (cost.typical, "middle")):
        longest = samples(name)[0][-1]
        prompt = prompter.prompt(longest, load_image(images_dir / f"{name}.png"))
        assert (found.image_id, found.tokens, found.image_tokens) == (f"{name}.png", len(prompt), prompt.image_tokens)
    assert (cost.rows, cost.row_bytes) == (9, 1500 * 2 * 2 + 1500)
    assert f"Largest prompt: {cost.largest.tokens} tokens, 16 of them for large.png." in str(cost)
    assert "about 1 typical prompt" in str(cost)
    assert "9 rows of about 8 kB will take 68 kB." in str(cost)


def test_an_image_that_will_fail_is_told(images_dir: Path) -> None:
    (images_dir / "large.png").write_bytes((images_dir / "large.png").read_bytes()[:200])
    prompter = Prompter(checkpoint=open_checkpoint("shapes"))
    cost = estimate(
        Preparer(prompter, images_dir), samples("large", "small"), vectors=1, token_budget=60,
        store_dtype="float32", question_view=False,
    )  # fmt: skip
    assert "Largest prompt: large.png will fail (" in str(cost)


def test_the_bytes_are_about_those_of_the_shards(
    images_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"question_id": s.question_id, "image_id": s.image_id, "question": s.question, "answer": "no"}
        for s in samples("small", questions=200)[0]
    ]
    caplog.set_level(logging.INFO, logger="halp_probe")
    for store_dtype, question_view in (("float32", True), ("float16", False)):
        caplog.clear()
        folder = tmp_path / store_dtype
        extract(
            [{**row, "question": "Is it red?"} for row in rows], images_dir, folder, model="shapes", answers=False,
            store_dtype=store_dtype, question_view=question_view,
        )  # fmt: skip
        (line,) = [record.getMessage() for record in caplog.records if "rows of about" in record.getMessage()]
        told = float(line.split()[-2]) * {"kB": 1e3, "MB": 1e6}[line.split()[-1].rstrip(".")]
        written = sum(file.stat().st_size for file in folder.glob("*.h5"))
        assert 0.6 < told / written < 1.6, (told, written)


class TooLong:
    """Makes the vision tower ask for more memory than there is, for prompts of this many patches."""

    def __init__(self, model: Any, patches: int) -> None:
        self.patches = patches
        model.model.visual.register_forward_pre_hook(self.allocate, with_kwargs=True)

    def allocate(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        pixels = args[0] if args else kwargs["hidden_states"]
        if len(pixels) >= self.patches:
            torch.empty(1 << 58)


def test_a_prompt_that_does_not_fit_the_memory_is_a_failure_row(images_dir: Path, tmp_path: Path) -> None:
    """Its batch is halved until it is alone; the others are captured as they are without it."""
    loaded = load_weights(open_checkpoint("shapes"))
    whole = extract(_table("small", "middle"), images_dir, tmp_path / "whole", model=loaded, answers=False)
    TooLong(loaded.model, patches=64)  # those of the large picture
    found = extract(_table("small", "middle", "large"), images_dir, tmp_path / "out", model=loaded, answers=False)
    assert sorted(failure.question_id for failure in found.failures) == ["large 0", "large 1", "large 2"]
    assert {failure.reason for failure in found.failures} == {
        f"out of memory with {tokens} tokens; lower `max_pixels`" for tokens in _tokens(loaded, images_dir)
    }
    assert found.shards.question_ids == whole.shards.question_ids
    name = "query_token_representation/layer_5"
    assert np.allclose(found.shards.vectors(name), whole.shards.vectors(name), atol=1e-5)


def _table(*names: str) -> list[dict[str, str]]:
    return [
        {"question_id": s.question_id, "image_id": s.image_id, "question": s.question, "answer": s.answer}
        for image in samples(*names)
        for s in image
    ]


def _tokens(loaded: Any, images_dir: Path) -> list[int]:
    prompter = Prompter(checkpoint=loaded.checkpoint)
    return [len(prompter.prompt(s, load_image(images_dir / "large.png"))) for s in samples("large")[0]]


def test_errors_of_the_cpu_s_allocator_are_out_of_memory() -> None:
    with pytest.raises(torch.OutOfMemoryError), report_no_memory():
        torch.empty(1 << 58)
    with pytest.raises(torch.OutOfMemoryError), report_no_memory():
        raise MemoryError
    with pytest.raises(RuntimeError, match="shape"), report_no_memory():
        torch.zeros(3).view(2)


def test_sharing_is_tried_on_the_smallest_image(
    images_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And a large one is shrunk for it: a photograph of 12 megapixels took minutes."""
    tried: list[int] = []
    run = Engine.run
    monkeypatch.setattr(
        Engine, "run", lambda engine, prompts: tried.append(prompts[0].image_tokens) or run(engine, prompts)
    )
    loaded = tiny_model("qwen3_vl")
    preparer = Preparer(Prompter(checkpoint=loaded.checkpoint), images_dir)
    caplog.set_level(logging.INFO, logger="halp_probe")
    assert try_sharing(loaded, (0, 5), preparer, samples("large", "small", "middle")).shared
    assert "Trying 3 questions on small.png" in caplog.text
    monkeypatch.setattr(sharing, "_LARGEST_SIDE", 64)
    tried.clear()
    assert try_sharing(loaded, (0, 5), preparer, samples("large")).shared
    assert set(tried) == {(64 // 32) ** 2}
    (whole,) = preparer(samples("large")[0][:1])
    assert isinstance(whole, Prompt) and whole.image_tokens > (64 // 32) ** 2


AREAS = ("glm4v", "glm46v", "glm4v_moe", "ernie4_5_vl_moe", "paddleocr_vl", "video_llama_3", "exaone4_5", "lfm3_vl")


@pytest.mark.parametrize("name", AREAS)
def test_the_area_can_be_bounded_in_every_family_that_has_bounds(name: str, images_dir: Path) -> None:
    """States are those of a processor that was configured so; without bounds the processor's own hold."""
    loaded = tiny_model(name)
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (168, 196, 3), dtype=np.uint8)).save(images_dir / "x.png")
    (sample,) = samples("x", questions=1)[0]
    picture = load_image(images_dir / "x.png")
    size = loaded.checkpoint.processor.image_processor.size
    low, high = size["shortest_edge"], size["longest_edge"]
    bounded = Prompter(checkpoint=loaded.checkpoint, max_pixels=high // 2).prompt(sample, picture)
    plain = Prompter(checkpoint=loaded.checkpoint).prompt(sample, picture)
    assert bounded.image_tokens < plain.image_tokens
    size["longest_edge"] = high // 2
    configured = Prompter(checkpoint=loaded.checkpoint).prompt(sample, picture)
    assert bounded.input_ids.tolist() == configured.input_ids.tolist()
    assert all(torch.equal(bounded.images[key], configured.images[key]) for key in configured.images)
    assert Prompter(checkpoint=loaded.checkpoint, max_pixels=high).pixel_bounds == (low, high)
    rows = Engine(loaded, CaptureSpec((0,), 0)).run([bounded])
    assert np.isfinite(rows[0].query_token[0]).all()


def test_a_family_without_bounds_refuses_them() -> None:
    with pytest.raises(InputError, match="llava's own processor decides the image size"):
        Prompter(checkpoint=tiny_model("llava").checkpoint, max_pixels=10_000)
