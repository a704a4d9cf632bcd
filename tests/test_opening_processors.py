"""What a processor's files leave out is taken from the model's config; what contradicts it is refused at opening.

Nothing here has weights: all of it is said before they are read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_models import TINY

from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prompting import Prompter
from halp_probe.errors import InputError
from halp_probe.models.errors import ModelError
from halp_probe.models.image_settings import settle_image_settings
from halp_probe.models.loading import Checkpoint, open_checkpoint
from halp_probe.records import Sample

STANDARD = {f"{name}_token" for name in ("bos", "eos", "pad", "unk", "sep", "cls", "mask")}
SETTINGS = ("patch_size", "vision_feature_select_strategy", "num_additional_image_tokens")
PROCESSOR, TOKENIZER, CONFIG = "processor_config.json", "tokenizer_config.json", "config.json"
# Families whose processors read tokens from the tokenizer's attributes.
NAMED = ("aria", "janus", "deepseek_vl", "deepseek_vl_hybrid", "perception_lm", "paddleocr_vl", "hunyuan_vl",
         "internvl", "qianfan_ocr", "cohere2_vision", "lighton_ocr", "gemma3", "phi4_multimodal")  # fmt: skip


def save(name: str, path: Path) -> tuple[Any, Any]:
    torch.manual_seed(7)
    model, processor = TINY[name].build()
    model.config.save_pretrained(path)
    processor.save_pretrained(path)
    return model, processor


def rewrite(path: Path, file: str, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((path / file).read_text())
    change(content)
    (path / file).write_text(json.dumps(content))


def without(*keys: str) -> Callable[[dict[str, Any]], object]:
    return lambda content: [content.pop(key, None) for key in keys]


def ids(checkpoint: Checkpoint) -> list[int]:
    picture = LoadedImage(Image.new("RGB", (60, 60), (9, 99, 200)), "a")
    made = Prompter(checkpoint=checkpoint).prompt(
        Sample(question_id="q", image_id="i", question="Is it red?", answer=""), picture
    )
    return [int(token) for token in made.input_ids]


@pytest.mark.parametrize("name", ["llava", "vipllava", "llava_next", "granite_vision"])
@pytest.mark.parametrize("lost", [SETTINGS, SETTINGS[:1], SETTINGS[1:2], SETTINGS[2:], SETTINGS[1:]])
def test_settings_that_are_left_out_are_the_model_s(name: str, lost: tuple[str, ...], tmp_path: Path) -> None:
    """With a class token and without one (SigLIP), with the feature strategies default and full."""
    _, processor = save(name, tmp_path)
    whole = ids(open_checkpoint(str(tmp_path)))
    rewrite(tmp_path, PROCESSOR, without(*lost))
    opened = open_checkpoint(str(tmp_path))
    found = [getattr(opened.processor, key) for key in SETTINGS]
    assert found == [getattr(processor, key) for key in SETTINGS]
    assert ids(opened) == whole


def test_as_many_image_tokens_as_features(tmp_path: Path) -> None:
    """Counted by the model itself."""
    model, _ = save("llava", tmp_path)
    rewrite(tmp_path, PROCESSOR, without(*SETTINGS))
    opened = open_checkpoint(str(tmp_path))
    features = model.model.get_image_features(pixel_values=torch.zeros(1, 3, 56, 56)).pooler_output
    assert ids(opened).count(opened.image_token_id) == len(features[0]) == 16


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("llava", {"vision_feature_select_strategy": "full"},
         "has vision_feature_select_strategy 'full', the model's config 'default'.*write .* 'default' in processor"),
        ("llava", {"num_additional_image_tokens": 0}, "has num_additional_image_tokens 0, the model's config 1"),
        ("llava_next", {"patch_size": 7}, "processor_config.json of .* has patch_size 7, the model's config 14"),
        ("llava_onevision", {"num_image_tokens": 5}, "has num_image_tokens 5, the model's config 4"),
        ("llava_onevision", {"vision_feature_select_strategy": "default"}, "select_strategy 'default', .* 'full'"),
        ("llava_onevision", {"vision_aspect_ratio": "anyres_max_9"}, "'anyres_max_9', the model's .* 'anyres_max_2'"),
        ("granite_vision", {"num_additional_image_tokens": 1}, "has num_additional_image_tokens 1, .* config 0"),
        ("granite_vision", {"vision_feature_select_strategy": "default"}, "select_strategy 'default', .* 'full'"),
    ],
)  # fmt: skip
def test_contradictions_are_named(name: str, change: dict[str, Any], message: str, tmp_path: Path) -> None:
    save(name, tmp_path)
    rewrite(tmp_path, PROCESSOR, lambda content: content.update(change))
    with pytest.raises(ModelError, match=message):
        open_checkpoint(str(tmp_path))


@pytest.mark.parametrize("name", ["llava_next", "llava_onevision", "granite4_vision"])
def test_other_canvases_than_the_model_s_are_refused(name: str, tmp_path: Path) -> None:
    save(name, tmp_path)
    rewrite(tmp_path, PROCESSOR, lambda content: content["image_processor"]["image_grid_pinpoints"].pop())
    with pytest.raises(ModelError, match=r"image_processor in processor_config\.json of .* has image_grid_pinpoints"):
        open_checkpoint(str(tmp_path))


@pytest.mark.parametrize("key", ["num_image_tokens", "vision_feature_select_strategy", "vision_aspect_ratio"])
def test_onevision_s_settings_are_the_model_s(key: str, tmp_path: Path) -> None:
    _, processor = save("llava_onevision", tmp_path)
    rewrite(tmp_path, PROCESSOR, without(key))
    assert getattr(open_checkpoint(str(tmp_path)).processor, key) == getattr(processor, key)


@pytest.mark.parametrize(
    ("name", "strategy", "more"), [("granite_vision", "default", 1), ("llava", "full", None), ("llava", "full", 0)]
)
def test_other_words_for_the_same_number_are_kept(name: str, strategy: str, more: int | None, tmp_path: Path) -> None:
    """SigLIP's features, with one added and taken away again; CLIP's without its class token, never added."""
    save(name, tmp_path)
    whole = ids(open_checkpoint(str(tmp_path)))
    rewrite(tmp_path, PROCESSOR, without("num_additional_image_tokens"))
    said: dict[str, Any] = {"vision_feature_select_strategy": strategy}
    if more is not None:
        said["num_additional_image_tokens"] = more
    rewrite(tmp_path, PROCESSOR, lambda content: content.update(said))
    assert ids(open_checkpoint(str(tmp_path))) == whole


def test_a_tower_of_another_kind_needs_the_number() -> None:
    config, processor = (part(TINY["llava"].build()) for part in (lambda pair: pair[0].config, lambda pair: pair[1]))
    config.vision_config.model_type = "dinov2"
    with pytest.raises(ModelError, match="no num_additional_image_tokens, and for a dinov2 it cannot be told"):
        settle_image_settings(processor, config, {}, "m")
    settle_image_settings(processor, config, {"num_additional_image_tokens": 1}, "m")


@pytest.mark.parametrize("beside", [False, True])
def test_pictures_of_another_size_than_the_tower_s_are_refused(beside: bool, tmp_path: Path) -> None:
    save("llava", tmp_path)
    small = {"crop_size": {"height": 28, "width": 28}, "size": {"shortest_edge": 28}}
    rewrite(tmp_path, PROCESSOR, lambda content: content["image_processor"].update(small))
    file = "image_processor in processor_config.json"
    if beside:  # as before transformers 5
        content = json.loads((tmp_path / PROCESSOR).read_text())
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(content.pop("image_processor")))
        (tmp_path / PROCESSOR).write_text(json.dumps(content))
        file = "preprocessor_config.json"
    with pytest.raises(ModelError, match=f"{file} of .* makes pictures of 28×28, the vision tower takes 56×56"):
        open_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("internvl", "image_seq_length", 3), ("gemma3", "image_seq_length", 3), ("smolvlm", "image_seq_len", 3),
     ("janus", "num_image_tokens", 17), ("llava", "image_token", "<|im_end|>")],
)  # fmt: skip
def test_another_number_of_image_tokens_than_features_is_refused(
    name: str, key: str, value: Any, tmp_path: Path
) -> None:
    save(name, tmp_path)
    rewrite(tmp_path, PROCESSOR, lambda content: content.update({key: value}))
    with pytest.raises(ModelError, match=r"image tokens \(id \d+\), and the model \d+|no image token|fails on a pict"):
        open_checkpoint(str(tmp_path))


def test_whatever_a_processor_raises_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save("llava", tmp_path)

    class Odd(Exception):
        pass

    def fail(*_: Any, **__: Any) -> None:
        raise Odd("several\nlines")

    monkeypatch.setattr("transformers.LlavaProcessor.__call__", fail)
    with pytest.raises(ModelError, match=r"fails on a picture of 96×80 \(Odd: several lines\); compare processor_conf"):
        open_checkpoint(str(tmp_path))


def test_the_setting_without_a_value_is_the_likely_one(tmp_path: Path) -> None:
    save("perception_lm", tmp_path)
    rewrite(tmp_path, PROCESSOR, without("patch_size"))
    with pytest.raises(ModelError, match=r"TypeError: .*processor_config.json says no patch_size: write the model's"):
        open_checkpoint(str(tmp_path))


@pytest.mark.parametrize("name", NAMED)
def test_names_of_tokens_that_a_tokenizer_lost_are_the_config_s(name: str, tmp_path: Path) -> None:
    """The processor then makes the prompt that the processor in memory makes."""
    model, processor = save(name, tmp_path)
    rewrite(
        tmp_path,
        TOKENIZER,
        lambda content: [content.pop(key) for key in list(content) if key.endswith("_token") and key not in STANDARD],
    )
    if name == "aria":  # the tiny model's processor takes smaller pictures, which is not saved
        rewrite(tmp_path, PROCESSOR, lambda content: content["size_conversion"].update({"980": 5}))
    opened = open_checkpoint(str(tmp_path))
    memory = Checkpoint(
        name=name, source=name, revision="r", config=model.config, processor=processor, family=opened.family
    )
    assert ids(opened) == ids(memory)
    assert opened.processor.tokenizer.all_special_tokens


@pytest.mark.parametrize("name", ["janus", "internvl"])
def test_a_name_that_nothing_tells_is_asked_for(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(name, tmp_path)
    rewrite(
        tmp_path,
        TOKENIZER,
        lambda content: [content.pop(key) for key in list(content) if key.endswith("_token") and key not in STANDARD],
    )
    monkeypatch.setattr("halp_probe.models.processors._MARKS", {})
    with pytest.raises(
        ModelError, match=r'names no \w+_token, .* add "\w+_token" with .* to its tokenizer_config.json'
    ):
        open_checkpoint(str(tmp_path))


def test_files_that_make_no_processor_are_refused(tmp_path: Path) -> None:
    """transformers gives the tokenizer alone, and calls it a processor."""
    save("llava", tmp_path)
    (tmp_path / PROCESSOR).unlink()
    rewrite(tmp_path, TOKENIZER, without("processor_class"))
    with pytest.raises(InputError, match=r"preprocessor_config\.json"):
        open_checkpoint(str(tmp_path))
