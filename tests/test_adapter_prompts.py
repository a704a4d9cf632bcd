"""What an adapter brings beside its weights is used: tokens, template, pictures' settings, rows for new tokens."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from PIL import Image
from test_adapters import CONFIG, captured, changed, difference, with_adapters
from tiny_adapters import LANGUAGE_ATTENTION, train_lora
from tiny_models import tiny_model
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from halp_probe.engine.engine import Engine
from halp_probe.engine.images import from_pixels
from halp_probe.engine.prompting import Prompter
from halp_probe.merging.checkpoint import merge_adapters
from halp_probe.models.adapter_prompts import fit_vocabulary
from halp_probe.models.adapters import open_adapter, write_trained_on
from halp_probe.models.errors import ModelError
from halp_probe.models.fingerprints import local_revision
from halp_probe.models.loading import open_checkpoint
from halp_probe.models.naming import BUNDLED_FOLDER
from halp_probe.records import CaptureSpec, Sample

pytestmark = pytest.mark.slow

NEW_TOKENS = ["<loc_1>", "<loc_2>"]
QUESTION = "<loc_1>?"
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (112, 112, 3), dtype=np.uint8))  # needs no resizing


@pytest.fixture(scope="module")
def spacious(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model with more embeddings than tokens, as Qwen has."""
    folder = tmp_path_factory.mktemp("spacious")
    model = AutoModelForImageTextToText.from_pretrained(BUNDLED_FOLDER, dtype=torch.float32)
    torch.manual_seed(0)
    model.resize_token_embeddings(len(AutoTokenizer.from_pretrained(BUNDLED_FOLDER)) + 8, mean_resizing=False)
    model.save_pretrained(folder)
    AutoProcessor.from_pretrained(BUNDLED_FOLDER).save_pretrained(folder)
    return folder


def new_processor() -> Any:
    """The bundled model's processor with two new tokens and another template."""
    processor = AutoProcessor.from_pretrained(BUNDLED_FOLDER)
    assert processor.tokenizer.add_tokens(NEW_TOKENS) == len(NEW_TOKENS)
    processor.chat_template = processor.chat_template.replace("assistant", "painter")
    assert "painter" in processor.chat_template
    return processor


def reference(base: Any, folder: Path, processor: Any) -> tuple[list[int], list[np.ndarray]]:
    """PEFT's own loading and the given processor: the prompt's ids, and the states at its last token by layer."""
    wrapped = peft.PeftModel.from_pretrained(base, str(folder)).eval()
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(text=[text], images=[PICTURE], return_tensors="pt")
    with torch.no_grad():
        hidden = wrapped(**inputs, output_hidden_states=True).hidden_states
    return inputs["input_ids"][0].tolist(), [states[0, -1].numpy() for states in hidden[1:-1]]


def assert_same(base: Path, adapter: Path, ids: list[int], states: list[np.ndarray]) -> None:
    loaded = with_adapters(adapter, base=str(base))
    sample = Sample(question_id="q", image_id="", question=QUESTION, answer="")
    prompt = Prompter(checkpoint=loaded.checkpoint).prompt(sample, from_pixels(PICTURE))
    assert prompt.input_ids.tolist() == ids
    (row,) = Engine(loaded, CaptureSpec(tuple(range(5)), 4)).run([prompt])
    for layer, expected in enumerate(states):
        assert np.abs(row.query_token[layer] - expected).max() <= 1e-5 * np.abs(expected).max()


def test_new_tokens_and_the_template_are_the_adapter_s(spacious: Path, tmp_path: Path) -> None:
    tokens = len(AutoTokenizer.from_pretrained(BUNDLED_FOLDER))
    folder = train_lora(
        tmp_path / "adapter",
        base=spacious,
        init_lora_weights=False,
        trainable_token_indices={"embed_tokens": [tokens, tokens + 1]},
    )
    processor = new_processor()
    without = open_checkpoint(str(spacious), adapters=[str(folder)])
    processor.save_pretrained(folder)
    base = AutoModelForImageTextToText.from_pretrained(spacious, dtype=torch.float32)
    ids, states = reference(base, folder, processor)
    assert tokens in ids
    assert_same(spacious, folder, ids, states)
    found = open_checkpoint(str(spacious), adapters=[str(folder)])
    assert found.chat_template_sha256 != without.chat_template_sha256
    assert found.stack is not None and found.stack.startswith(f"{without.stack} with processor-")


def test_files_that_are_the_base_model_s_change_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Most trainers save them with every adapter; shards of before are still of the same adapter."""
    folder = train_lora(tmp_path / "adapter")
    before = open_checkpoint("shapes", adapters=[str(folder)])
    processor = AutoProcessor.from_pretrained(BUNDLED_FOLDER)
    processor.tokenizer.padding_side = "right"
    processor.save_pretrained(folder)
    caplog.set_level(logging.INFO, logger="halp_probe")
    after = open_checkpoint("shapes", adapters=[str(folder)])
    assert not caplog.records
    assert (after.stack, after.chat_template_sha256) == (before.stack, before.chat_template_sha256)


@pytest.mark.parametrize("what", ["template", "tokenizer", "pictures"])
def test_each_part_is_used_by_itself(tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture) -> None:
    folder = train_lora(tmp_path / "adapter")
    plain = open_checkpoint("shapes", adapters=[str(folder)])
    if what == "template":
        (folder / "chat_template.jinja").write_text(new_processor().chat_template)
    elif what == "tokenizer":
        tokenizer = AutoTokenizer.from_pretrained(BUNDLED_FOLDER)
        tokenizer.add_tokens(["assistant_"])
        tokenizer.save_pretrained(folder)
        with pytest.raises(ModelError, match=r"has ids up to .*, the model .* embeddings"):
            with_adapters(folder)
        return
    else:
        pictures = AutoProcessor.from_pretrained(BUNDLED_FOLDER).image_processor
        pictures.image_mean = [0.1, 0.2, 0.3]
        pictures.save_pretrained(folder)
    caplog.set_level(logging.INFO, logger="halp_probe")
    found = open_checkpoint("shapes", adapters=[str(folder)])
    assert "is used in place of the model's" in caplog.text
    assert (found.chat_template_sha256 == plain.chat_template_sha256) == (what != "template")
    assert (found.stack == plain.stack) == (what != "pictures")
    if what == "pictures":
        assert list(found.processor.image_processor.image_mean) == [0.1, 0.2, 0.3]


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = train_lora(tmp_path / "adapter")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        text = (BUNDLED_FOLDER / file).read_text()
        (folder / file).write_text(text.replace("<|image_pad|>", "<|picture|>"))
    with pytest.raises(ModelError, match=r"of its tokenizer is .*, not .*, which stands for an image"):
        open_checkpoint("shapes", adapters=[str(folder)])


def test_a_template_that_shows_no_image_is_refused(tmp_path: Path) -> None:
    """That of a language model, which a trainer of text alone saves with its adapter."""
    folder = train_lora(tmp_path / "adapter")
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content[1].text }}{% endfor %}:")
    with pytest.raises(ModelError, match=r"chat_template.jinja writes no token for it"):
        open_checkpoint("shapes", adapters=[str(folder)])


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    folder = train_lora(tmp_path / "adapter")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="its tokenizer or processor cannot be read"):
        open_checkpoint("shapes", adapters=[str(folder)])


@pytest.mark.parametrize("saved", [["embed_tokens", "lm_head"], None], ids=["modules_to_save", "by itself"])
def test_a_resized_vocabulary_is_the_adapter_s(tmp_path: Path, saved: list[str] | None) -> None:
    """Trained after `resize_token_embeddings`: PEFT saves the embeddings, as such or because they were resized."""
    processor = new_processor()

    def resized() -> Any:
        model = AutoModelForImageTextToText.from_pretrained(BUNDLED_FOLDER, dtype=torch.float32)
        torch.manual_seed(5)
        model.resize_token_embeddings(len(processor.tokenizer), mean_resizing=False)
        return model

    config = peft.LoraConfig(r=4, target_modules=LANGUAGE_ATTENTION, modules_to_save=saved, init_lora_weights=False)
    wrapped = peft.get_peft_model(resized(), config)
    with torch.no_grad():
        wrapped.get_input_embeddings().weight.mul_(1.1)
    wrapped.save_pretrained(tmp_path / "adapter", save_embedding_layers=True if saved is None else "auto")
    folder = changed(tmp_path / "adapter", tmp_path / "named", base_model_name_or_path=str(BUNDLED_FOLDER))
    processor.save_pretrained(folder)
    ids, states = reference(resized(), folder, processor)
    assert len(processor.tokenizer) - 2 in ids
    assert_same(BUNDLED_FOLDER, folder, ids, states)


def test_new_inputs_without_new_outputs_are_refused(tmp_path: Path) -> None:
    model = tiny_model("llava").model
    rows, width = model.get_input_embeddings().weight.shape
    adapter = open_adapter(str(train_lora(tmp_path / "adapter", steps=0)))
    shapes = {"base_model.model.model.language_model.embed_tokens.weight": (rows + 2, width)}
    with pytest.raises(ModelError, match=f"has {rows + 2} input embeddings, the model {rows}"):
        fit_vocabulary(model, adapter, shapes)
    fit_vocabulary(model, adapter, {**shapes, "base_model.model.lm_head.weight": (rows + 2, width)})
    assert len(model.get_input_embeddings().weight) == len(model.get_output_embeddings().weight) == rows + 2


def test_a_merge_keeps_the_adapter_s_processor(spacious: Path, tmp_path: Path) -> None:
    folder = train_lora(tmp_path / "adapter", base=spacious, init_lora_weights=False)
    new_processor().save_pretrained(folder)
    checkpoint = open_checkpoint(str(spacious), adapters=[str(folder)])
    merge_adapters(checkpoint, tmp_path / "merged")
    merged = open_checkpoint(str(tmp_path / "merged"))
    assert merged.chat_template_sha256 == checkpoint.chat_template_sha256
    assert len(merged.processor.tokenizer.encode(QUESTION)) == 2
    loaded = with_adapters(base=str(tmp_path / "merged"))
    assert difference(captured(loaded), captured(with_adapters(folder, base=str(spacious)))) < 1e-5


def test_another_base_of_the_same_name_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The base that the adapter names is not here; a fingerprint decides where the adapter has one."""
    base = Path(shutil.copytree(BUNDLED_FOLDER, tmp_path / "here" / "tiny-vl"))
    folder = changed(train_lora(tmp_path / "first"), tmp_path / "lora", base_model_name_or_path="/there/tiny-vl")
    open_checkpoint(str(base), adapters=[str(folder)])
    assert "is taken from its name alone" in caplog.text
    caplog.clear()
    write_trained_on(folder, local_revision(base))
    open_checkpoint(str(base), adapters=[str(folder)])
    assert not caplog.records
    (base / "generation_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"trained on /there/tiny-vl \(local-.*\), the model .* has the same name but"):
        open_checkpoint(str(base), adapters=[str(folder)])
    (folder / "trained_on.json").write_text("{}")
    with pytest.raises(ModelError, match=r"trained_on\.json is not what was written there"):
        open_checkpoint(str(base), adapters=[str(folder)])
    assert (folder / CONFIG).is_file()
