"""Whether prefixes may be shared is tried, not assumed; what must not share runs one by one and stays exact."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import FAMILY_NAMES, tiny_model

from halp_probe.cli import run_script
from halp_probe.engine import sharing
from halp_probe.engine.engine import Engine, _sliding_window
from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prefill import Prefiller
from halp_probe.engine.prefix import common_prefix, group_by_image, shared_tokens
from halp_probe.engine.preparing import Preparer
from halp_probe.engine.prompting import Prompt, Prompter
from halp_probe.engine.sharing import try_sharing
from halp_probe.models.loading import LoadedModel
from halp_probe.records import USUAL_POSITIONS, Captured, CaptureSpec, Sample
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.reader import open_shards

pytestmark = pytest.mark.slow

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
    return [
        Sample(question_id=f"{image}{k}", image_id=f"{image}.png", question=question, answer="")
        for k, question in enumerate(questions)
    ]


def tried(loaded: LoadedModel, images_dir: Path, *groups: list[Sample]) -> sharing.Sharing:
    return try_sharing(loaded, LAYERS, Preparer(Prompter(checkpoint=loaded.checkpoint), images_dir), groups)


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_families_share_or_say_why_not(name: str, images_dir: Path) -> None:
    loaded = tiny_model(name)
    found = tried(loaded, images_dir, samples("a", *QUESTIONS))
    assert found.reason == loaded.checkpoint.family.unshared
    assert found.shared == (found.reason == "")
    if found.shared:
        assert found.difference is not None and found.difference < 1e-5


@pytest.mark.parametrize("wrong", ["image_mean", "question_end"])
def test_a_further_position_that_sharing_would_change_is_not_shared(
    wrong: str, images_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial looks at every position that the run reads, and at no others."""

    class Wrong(Engine):
        def run(self, prompts: Sequence[Prompt]) -> list[Captured]:
            factor = 1.5 if self.share_prefix else 1.0
            return [
                replace(row, **{wrong: {layer: factor * state for layer, state in getattr(row, wrong).items()}})
                for row in super().run(prompts)
            ]

    loaded = tiny_model("qwen2_5_vl")
    preparer = Preparer(Prompter(checkpoint=loaded.checkpoint, question_end=True), images_dir)
    further = (*USUAL_POSITIONS, wrong.replace("_", "-"))
    assert try_sharing(loaded, LAYERS, preparer, [samples("a", *QUESTIONS)], further).shared
    monkeypatch.setattr(sharing, "Engine", Wrong)
    assert not try_sharing(loaded, LAYERS, preparer, [samples("a", *QUESTIONS)], further).shared
    assert try_sharing(loaded, LAYERS, preparer, [samples("a", *QUESTIONS)]).shared


def test_the_first_image_with_several_good_questions_is_tried(images_dir: Path) -> None:
    alone, broken = samples("a", QUESTIONS[0]), samples("broken", *QUESTIONS)
    same, special = samples("a", *QUESTIONS[:1] * 3), samples("a", QUESTIONS[0], "What is <|image_pad|>?")
    loaded = tiny_model("qwen2_5_vl")
    nothing = tried(loaded, images_dir, alone, broken, same, special)
    assert nothing == sharing.Sharing(shared=False, reason="no image with two questions can be read", decided=False)
    assert tried(loaded, images_dir, alone, broken, same, special, samples("b", *QUESTIONS)).shared


@pytest.mark.parametrize("name", ["paligemma", "paligemma2"])
def test_a_prefix_lm_is_told_by_the_table_and_found_without_it(name: str, images_dir: Path) -> None:
    loaded = tiny_model(name)
    declared = tried(loaded, images_dir, samples("a", *QUESTIONS))
    assert not declared.shared and declared.difference is None and "prefix-LM" in declared.reason
    measured = tried(without_declaration(loaded), images_dir, samples("a", *QUESTIONS))
    assert not measured.shared and measured.difference is not None and measured.difference > 1e-3
    assert "states with a shared prefix differ by" in measured.reason
    assert measured.rounding is not None and measured.rounding < 1e-5


def without_declaration(loaded: LoadedModel) -> LoadedModel:
    family = replace(loaded.checkpoint.family, unshared="")
    return LoadedModel(checkpoint=replace(loaded.checkpoint, family=family), model=loaded.model)


def test_bfloat16_is_judged_by_its_own_rounding(images_dir: Path) -> None:
    loaded = tiny_model("qwen2_5_vl")
    half = LoadedModel(checkpoint=loaded.checkpoint, model=loaded.model.bfloat16())
    assert tried(half, images_dir, samples("a", *QUESTIONS)).shared
    family = tiny_model("paligemma")
    wrong = LoadedModel(checkpoint=without_declaration(family).checkpoint, model=family.model.bfloat16())
    assert not tried(wrong, images_dir, samples("a", *QUESTIONS)).shared


@pytest.mark.parametrize(
    ("difference", "rounding", "dtype", "shared"),
    [
        (9e-6, 0.0, torch.float32, True),
        (2e-5, 1e-6, torch.float32, False),
        (2e-5, 5e-6, torch.float32, True),
        (3e-3, 0.0, torch.bfloat16, True),
        (2e-2, 3e-3, torch.bfloat16, False),
        (2e-2, 5e-3, torch.bfloat16, True),
        (float("nan"), 0.0, torch.float32, False),
        (0.0, float("nan"), torch.float32, False),
        (float("inf"), 1.0, torch.float32, False),
    ],
)
def test_what_is_allowed(difference: float, rounding: float, dtype: torch.dtype, shared: bool) -> None:
    assert sharing.judge_difference(difference, rounding, dtype).shared is shared


def captured(images_dir: Path) -> list[Captured]:
    loaded = tiny_model("qwen2_5_vl")
    preparer = Preparer(Prompter(checkpoint=loaded.checkpoint), images_dir)
    prompts = [prompt for prompt in preparer(samples("a", *QUESTIONS)) if isinstance(prompt, Prompt)]
    return Engine(loaded, CaptureSpec(LAYERS, 0)).run(prompts)


def test_every_number_counts_in_the_difference(images_dir: Path) -> None:
    """In any sample, at either position, in any layer, also in the confidence; scaled, zero or not a number."""
    rows = captured(images_dir)
    assert sharing.largest_difference(rows, rows) == 0
    for k, row in enumerate(rows):
        for position in ("vision_token", "query_token"):
            for layer, vector in getattr(row, position).items():
                for other, expected in ((2 * vector, 1.0), (0 * vector, 1.0), (vector + np.nan, np.nan)):
                    changed = [*rows]
                    changed[k] = replace(row, **{position: {**getattr(row, position), layer: other}})
                    assert sharing.largest_difference(changed, rows) == pytest.approx(expected, nan_ok=True)
                    if not other.any():
                        assert sharing.largest_difference(rows, changed) == np.inf
        changed = [*rows]
        changed[k] = replace(row, first_token_entropy=row.first_token_entropy * 1.1)
        assert sharing.largest_difference(changed, rows) > 0.01


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
    for dtype in (torch.float32, torch.bfloat16):
        loaded = tiny_model("qwen2_5_vl")
        model = LoadedModel(checkpoint=loaded.checkpoint, model=loaded.model.to(dtype))
        assert not tried(model, images_dir, samples("a", *QUESTIONS)).shared


def test_the_last_block_is_tried_whatever_is_stored(images_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake that shows after block 0 only, where block 0 alone is asked for."""
    prefixes = Prefiller._prefixes

    def spoilt(self: Prefiller, groups: list[list[Prompt]], seen: object) -> object:
        made = prefixes(self, groups, seen)
        made.cache.layers[3].values *= 1.5
        return made

    monkeypatch.setattr(Prefiller, "_prefixes", spoilt)
    loaded = tiny_model("qwen2_5_vl")
    preparer = Preparer(Prompter(checkpoint=loaded.checkpoint), images_dir)
    assert not try_sharing(loaded, (0,), preparer, [samples("a", *QUESTIONS)]).shared


def test_out_of_memory_while_trying(images_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("pretended")

    monkeypatch.setattr(Prefiller, "read_whole", full)
    found = tried(tiny_model("qwen2_5_vl"), images_dir, samples("a", *QUESTIONS))
    assert not found.shared and not found.decided and "do not fit the device's memory" in found.reason


def test_a_sliding_window_that_padding_could_shorten_is_not_shared(images_dir: Path) -> None:
    """Gemma 3 counts its window in columns of the cache, padding included; its answers count too."""
    loaded = tiny_model("gemma3")
    assert loaded.model.config.text_config.sliding_window == 256
    prompter = Prompter(checkpoint=loaded.checkpoint)
    pictures = [LoadedImage(Image.open(images_dir / f"{name}.png").convert("RGB"), name) for name in "ab"]

    def widths(beginning: str, words: int) -> list[int]:
        """Of the batches through the first block; on the second image the prompts share their long beginning too."""
        seen: list[int] = []
        asked = [[q + " again" * words for q in QUESTIONS], [beginning + q for q in QUESTIONS]]
        prompts = [
            prompter.prompt(Sample(question_id=f"{k}", image_id="", question=question, answer=""), picture)
            for k, (picture, questions) in enumerate(zip(pictures, asked, strict=True))
            for question in questions
        ]
        block = loaded.checkpoint.family.blocks(loaded.model)[0]
        hook = block.register_forward_pre_hook(lambda _m, args: seen.append(args[0].shape[1]))
        rows = Engine(loaded, CaptureSpec(LAYERS, 6), share_prefix=True).run(prompts)
        hook.remove()
        for row, prompt in zip(rows, prompts, strict=True):
            single = Engine(loaded, CaptureSpec(LAYERS, 6)).run([prompt])[0]
            assert row.answer == single.answer
            for layer in LAYERS:
                scale = np.abs(single.query_token[layer]).max()
                assert np.abs(row.query_token[layer] - single.query_token[layer]).max() <= 1e-5 * scale
        return seen

    assert len(widths("", 1)) == 2 + 5  # a prefix, then suffixes, then answer tokens
    assert len(widths("Look at it. " * 20, 60)) == 1 + 5  # each fits the window, not both


@pytest.mark.parametrize(
    ("config", "window"),
    [
        ({"sliding_window": 64, "layer_types": ["full_attention", "sliding_attention"]}, 64),
        ({"sliding_window": 64, "layer_types": ["full_attention"]}, None),
        ({"sliding_window": 64}, 64),
        ({"sliding_window": None}, None),
        ({}, None),
        ({"attention_chunk_size": 64, "layer_types": ["full_attention", "chunked_attention"]}, 64),
        ({"attention_chunk_size": 64, "layer_types": ["full_attention"]}, None),
    ],
)
def test_sliding_windows(config: dict[str, object], window: int | None) -> None:
    assert _sliding_window(SimpleNamespace(**config)) == window


def test_pure_parts() -> None:
    assert common_prefix([np.array([1, 2, 3]), np.array([1, 2, 4, 5]), np.array([1, 2, 3, 4])]) == 2
    assert common_prefix([np.array([1, 2]), np.array([1, 2, 3])]) == 2
    assert common_prefix([np.array([5]), np.array([6])]) == 0
    loaded = tiny_model("qwen2_5_vl")
    prompter = Prompter(checkpoint=loaded.checkpoint)
    white, black = (LoadedImage(Image.new("RGB", (64, 64), colour), colour) for colour in ("white", "black"))
    on_white, on_black, again = (
        prompter.prompt(Sample(question_id=str(k), image_id="", question=question, answer=""), image)
        for k, (image, question) in enumerate([(white, QUESTIONS[0]), (black, QUESTIONS[1]), (white, QUESTIONS[0])])
    )
    images = group_by_image([on_white, on_black, again])
    assert (images.rows, images.image_of, images.first_rows) == ([[0, 2], [1]], [0, 1, 0], [0, 1])
    assert shared_tokens([on_white]) == on_white.positions.vision_index + 1
    assert shared_tokens([on_white, again]) == on_white.positions.query_index  # the query token is never shared
    with pytest.raises(ValueError, match="different pixels"):
        group_by_image([on_white, replace(on_black, image_sha256=on_white.image_sha256)])


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
    assert recorded["shared"] and recorded["difference"] < 1e-5
    monkeypatch.setattr(
        sharing, "judge_difference", lambda *_: sharing.Sharing(shared=False, reason="states differ by much")
    )
    assert extract(data, tmp_path / "shared") == 0  # recorded, so not tried again
    assert "one by one" not in capsys.readouterr().err
    assert open_shards(tmp_path / "shared").attributes["prefix_shared"]
    assert extract(data, tmp_path / "alone") == 0
    assert "Questions on one image run one by one: states differ by much." in capsys.readouterr().err
    assert not open_shards(tmp_path / "alone").attributes["prefix_shared"]
    assert extract(data, tmp_path / "off", "--no-prefix-sharing") == 0
    assert not open_shards(tmp_path / "off").attributes["prefix_shared"]
    capsys.readouterr()
    assert extract(data, tmp_path / "off") == 2
    assert "was captured without prefix sharing: pass --no-prefix-sharing again" in capsys.readouterr().err
    assert extract(data, tmp_path / "shared", "--no-prefix-sharing") == 2
    assert "was captured with prefix sharing: leave --no-prefix-sharing out" in capsys.readouterr().err
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


def test_what_could_not_be_tried_is_tried_by_the_next_run(data: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "vqa.csv").write_text((data / "vqa.csv").read_text())
    assert extract(tmp_path, tmp_path / "out") == 1
    assert extract(data, tmp_path / "out") == 0
    assert open_shards(tmp_path / "out").attributes["prefix_shared"]
