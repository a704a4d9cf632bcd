"""Folders with the settings of thirteen real checkpoints make the prompts that those make; no file is copied.

The oracle are numbers read from the real folders: a prompt's text, its length by picture size, the last image token's
index, what ends an answer, and the rotary positions.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from real.folder import Folder
from real.folders import FOLDERS
from real.others import OTHERS
from real.prompts import FACTS, QUESTION, SIZES
from real.qwen import QWEN
from transformers import GenerationConfig

from halp_probe.engine.decoding import answer_rules
from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prompting import Prompt, Prompter
from halp_probe.engine.sampling import GREEDY
from halp_probe.models.loading import Checkpoint, open_checkpoint
from halp_probe.records import Sample

LARGE = (4000, 3000)
FLAT = FOLDERS["qwen25vl"].config
TEXT_KEYS = [key for key in FLAT if key not in ("model_type", "vision_config") and not key.endswith("_token_id")]
QWEN2_PIXELS = FOLDERS["qwen25vl"].files["preprocessor_config.json"]
NO_AREA = {key: value for key, value in QWEN2_PIXELS.items() if key not in ("min_pixels", "max_pixels")}
AREA = {"min_pixels": 3136, "max_pixels": 12845056}
EDGES = {"shortest_edge": 3136, "longest_edge": 12845056}
CLIP_PIXELS = FOLDERS["llava15"].files["preprocessor_config.json"]
NO_TYPE = {key: value for key, value in CLIP_PIXELS.items() if key != "image_processor_type"}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A checkpoint by name, opened once."""

    @functools.cache
    def open_named(name: str) -> Checkpoint:
        return open_folder(FOLDERS[name], tmp_path_factory.mktemp(name))

    return open_named


def open_folder(folder: Folder, path: Path) -> Checkpoint:
    return open_checkpoint(str(folder.save(path)))


def prompt(checkpoint: Checkpoint, size: tuple[int, int], question: str = QUESTION) -> Prompt:
    picture = LoadedImage(Image.new("RGB", size, (50, 99, 200)), f"{size}")
    return Prompter(checkpoint=checkpoint).prompt(
        Sample(question_id="q", image_id="i", question=question, answer=""), picture
    )


def numbers(made: Prompt) -> tuple[int, int, int]:
    return len(made), made.image_tokens, made.positions.vision_index


def image_tokens(checkpoint: Checkpoint) -> list[int]:
    return [prompt(checkpoint, size).image_tokens for size in SIZES[:3]]


@pytest.mark.parametrize("name", FOLDERS)
def test_the_prompt_is_the_real_one(name: str, opened: Any) -> None:
    checkpoint, facts = opened(name), FACTS[name]
    made = [prompt(checkpoint, size) for size in SIZES[:3]]
    found = list(zip(facts.tokens, facts.image_tokens, facts.last_image_index, strict=True))[:3]
    assert [numbers(one) for one in made] == found
    tokenizer = checkpoint.processor.tokenizer
    rendered = Prompter(checkpoint=checkpoint)._chat.text(QUESTION, [Image.new("RGB", (48, 48))])
    assert rendered == facts.text
    ids = made[0].input_ids.tolist()
    if tokenizer.bos_token is not None:
        assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
    asked = tokenizer(QUESTION, add_special_tokens=False).input_ids
    asked = asked[1:] if FOLDERS[name].words.spaces_as_marks else asked  # its mark for a beginning
    at = made[0].positions.vision_index
    assert asked[-1] in ids[at + 1 :] and made[0].positions.query_index == len(ids) - 1
    assert tokenizer.unk_token is None or tokenizer.unk_token_id not in ids


@pytest.mark.parametrize("name", QWEN)
def test_a_photo_of_12_megapixels_gets_as_many_image_tokens(name: str, opened: Any) -> None:
    """By the processor's own arithmetic; the picture itself is processed in the slow tests."""
    width, height = LARGE
    found = opened(name).processor._get_num_multimodal_tokens(image_sizes=[(height, width)])
    assert found.num_image_tokens == [FACTS[name].image_tokens[3]]


@pytest.mark.parametrize("name", [name for name in OTHERS if len(FACTS[name].tokens) == len(SIZES)])
def test_a_photo_of_12_megapixels_is_the_real_prompt(name: str, opened: Any) -> None:
    facts = FACTS[name]
    assert numbers(prompt(opened(name), LARGE)) == (facts.tokens[3], facts.image_tokens[3], facts.last_image_index[3])


def test_a_portrait_picture_in_tiles_is_the_published_case(opened: Any) -> None:
    """2,369 prompt tokens in LLaVA-1.6-Mistral: 2,352 of a picture of 3:4, and a question of six pieces."""
    made = prompt(opened("llava16"), (480, 640), "Is a person in it?")
    assert (len(made), made.image_tokens) == (2369, 2352)


@pytest.mark.parametrize("name", FOLDERS)
def test_answers_end_where_the_checkpoint_says(name: str, opened: Any) -> None:
    """All end tokens count; the repetition penalty is kept, and the settings for sampling are passed over."""
    checkpoint, facts = opened(name), FACTS[name]
    tokenizer = checkpoint.processor.tokenizer
    rules = answer_rules(
        GenerationConfig.from_pretrained(checkpoint.source),
        tokenizer.eos_token_id,
        checkpoint.family.ignored_generation,
    )
    assert rules.end_ids == tuple(tokenizer.convert_tokens_to_ids(list(facts.eos)))
    assert rules.repetition_penalty == facts.repetition_penalty
    assert rules.decoding == GREEDY
    kinds = [type(one).__name__ for one in rules.processors(torch.device("cpu"))]
    assert kinds == (["RepetitionPenaltyLogitsProcessor"] if facts.repetition_penalty != 1 else [])


@pytest.mark.parametrize("name", FOLDERS)
def test_rotary_positions_are_loaded(name: str, opened: Any) -> None:
    assert opened(name).config.get_text_config().rope_parameters == FACTS[name].rope


def nested(**text: Any) -> dict[str, Any]:
    """The flat config of Qwen2.5-VL with its language model's settings in `text_config`."""
    own = {key: FLAT[key] for key in TEXT_KEYS if key not in ("rope_scaling", "rope_theta", "torch_dtype")}
    rest = {key: value for key, value in FLAT.items() if key not in TEXT_KEYS}
    return {**rest, "text_config": {**own, "model_type": "qwen2_5_vl_text", **text}}


ROPE_NAMES = {"type": "default", "rope_type": "default", "mrope_section": [16, 24, 24]}
SPELLINGS: dict[str, dict[str, Any]] = {
    "flat, of 4.49": {**FLAT, "rope_scaling": ROPE_NAMES, "transformers_version": "4.49.0"},
    "nested, of 4.52": {**nested(rope_scaling=ROPE_NAMES, rope_theta=1000000.0, torch_dtype="bfloat16"),
                        "torch_dtype": "bfloat16"},
    "both, of 4.55": {**FLAT, **nested(rope_scaling=ROPE_NAMES, rope_theta=1000000.0)},
    "dtype, of 4.56": {**nested(rope_scaling=ROPE_NAMES, rope_theta=1000000.0, dtype="bfloat16"), "dtype": "bfloat16"},
    "of 5.24": {
        **nested(rope_parameters={**ROPE_NAMES, "rope_theta": 1000000.0}, dtype="bfloat16"),
        "dtype": "bfloat16",
        "transformers_version": "5.24.0",
    },
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_configs_of_all_releases_say_the_same(spelling: str, opened: Any, tmp_path: Path) -> None:
    base = FOLDERS["qwen25vl"]
    other = open_folder(base.changed("config.json", SPELLINGS[spelling]), tmp_path)
    before, after = (checkpoint.config.get_text_config() for checkpoint in (opened("qwen25vl"), other))
    assert {**after.rope_parameters, "type": "mrope"} == before.rope_parameters
    assert other.config.dtype == opened("qwen25vl").config.dtype == torch.bfloat16
    names = [
        key
        for key in TEXT_KEYS
        if hasattr(before, key) and key not in ("rope_scaling", "torch_dtype", "transformers_version")
    ]
    assert len(names) > 10
    assert {key: getattr(after, key) for key in names} == {key: getattr(before, key) for key in names}
    assert numbers(prompt(other, (640, 427))) == numbers(prompt(opened("qwen25vl"), (640, 427)))


def test_the_image_token_has_two_names(opened: Any, tmp_path: Path) -> None:
    config = {**FOLDERS["llava15"].config, "image_token_id": "@<image>"}
    del config["image_token_index"]
    other = open_folder(FOLDERS["llava15"].changed("config.json", config), tmp_path)
    assert other.image_token_id == opened("llava15").image_token_id


QWEN_FORMS: dict[str, Mapping[str, Any]] = {
    "edges": {**NO_AREA, "size": EDGES},
    "areas and edges": {**QWEN2_PIXELS, "size": EDGES},
    "areas as size": {**NO_AREA, "size": AREA},
    "fast": {**QWEN2_PIXELS, "image_processor_type": "Qwen2VLImageProcessorFast"},
    "fast with edges": {**NO_AREA, "size": EDGES, "image_processor_type": "Qwen2VLImageProcessorFast"},
    "feature extractor": {**QWEN2_PIXELS, "feature_extractor_type": "Qwen2VLFeatureExtractor"},
    "no type": {key: value for key, value in QWEN2_PIXELS.items() if key != "image_processor_type"},
}
CLIP_FORMS: dict[str, Mapping[str, Any]] = {
    "numbers": {**CLIP_PIXELS, "size": 336, "crop_size": 336},
    "height and width": {**CLIP_PIXELS, "size": {"height": 336, "width": 336}},
    "fast": {**CLIP_PIXELS, "image_processor_type": "CLIPImageProcessorFast"},
    "feature extractor": {**NO_TYPE, "feature_extractor_type": "CLIPFeatureExtractor"},
}


@pytest.mark.parametrize(
    ("name", "form"), [*(("qwen25vl", form) for form in QWEN_FORMS), *(("llava15", form) for form in CLIP_FORMS)]
)
def test_settings_of_images_have_many_forms(name: str, form: str, tmp_path: Path) -> None:
    content = (QWEN_FORMS if name == "qwen25vl" else CLIP_FORMS)[form]
    checkpoint = open_folder(FOLDERS[name].changed("preprocessor_config.json", content), tmp_path)
    assert image_tokens(checkpoint) == list(FACTS[name].image_tokens[:3])


@pytest.mark.parametrize("name", FOLDERS)
def test_settings_of_images_may_stand_in_the_processor_s(name: str, opened: Any, tmp_path: Path) -> None:
    """As transformers 5 saves them: in processor_config.json alone, whichever form they were read from."""
    path = FOLDERS[name].save(tmp_path)
    opened(name).processor.save_pretrained(path)
    for file in ("preprocessor_config.json", "video_preprocessor_config.json"):
        (path / file).unlink(missing_ok=True)
    saved = json.loads((path / "processor_config.json").read_text())
    assert "image_processor" in saved
    assert image_tokens(open_checkpoint(str(path))) == list(FACTS[name].image_tokens[:3])
