"""The original's files give the original's numbers, go back and forth unchanged, and execute nothing."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny.fused import write_language, write_vit
from torch import nn
from transformers import AutoModelForImageTextToText, Qwen2ForCausalLM, ViTModel

from halp_probe.fused.model import FusedModel, FusedParts, build, connector, lora_targets, save
from halp_probe.fused.original import CONNECTOR_FILE, LORA_FOLDER, load_connector
from halp_probe.fused.original_lora import adapter_from_original, write_original
from halp_probe.models.errors import ModelError
from halp_probe.models.loading import load_weights, open_checkpoint

pytestmark = pytest.mark.slow

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]


@dataclass(frozen=True)
class Original:
    """What the original's training ends with, made without a line of ours: its files, and its model in memory."""

    vision: str
    language: str
    folder: Path  # final_connector.pth, final_lora_model/
    tower: Any
    connector: nn.Module
    decoder: Any  # a PeftModel of Qwen2ForCausalLM

    @torch.no_grad()
    def logits(self, pixels: torch.Tensor, ids: torch.Tensor, image_token: int) -> torch.Tensor:
        """Embeddings of the prompt with the projected states behind the ViT's final LayerNorm in the marker's place."""
        tokens = self.connector(self.tower(pixel_values=pixels).last_hidden_state)[0]
        embedded = self.decoder.get_input_embeddings()(ids)[0]
        at = (ids[0] == image_token).nonzero()[:, 0]
        whole = torch.cat([embedded[: at[0]], tokens, embedded[at[-1] + 1 :]])
        return self.decoder(inputs_embeds=whole[None]).logits


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("original")
    vision, language = str(write_vit(folder / "vit")), str(write_language(folder / "qwen"))
    joint = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 32))
    torch.save(joint.state_dict(), folder / CONNECTOR_FILE)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, task_type="CAUSAL_LM", lora_dropout=0.05)
    decoder = peft.get_peft_model(Qwen2ForCausalLM.from_pretrained(language), config)
    for name, parameter in decoder.named_parameters():
        if "lora_B" in name:  # zero at first: a LoRA without an effect
            nn.init.normal_(parameter, std=0.3)
    decoder.save_pretrained(folder / LORA_FOLDER)
    return Original(vision, language, folder, ViTModel.from_pretrained(vision).eval(), joint, decoder.eval())


@pytest.fixture
def fresh(original: Original) -> FusedModel:
    return build(FusedParts(vision=original.vision, language=original.language, vision_layernorm=True))


def asked(processor: Any) -> Any:
    picture = np.random.default_rng(2).integers(0, 255, size=(40, 90, 3), dtype=np.uint8)
    content = [{"type": "image"}, {"type": "text", "text": "What shape is it?"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    return processor(text=[text], images=Image.fromarray(picture), return_tensors="pt")


def test_the_loaded_files_give_the_originals_logits(original: Original, fresh: FusedModel, tmp_path: Path) -> None:
    load_connector(fresh.model, original.folder / CONNECTOR_FILE)
    save(fresh, tmp_path / "model")
    lora, adapter = original.folder / LORA_FOLDER, tmp_path / "adapter"
    adapter_from_original(lora, fresh.model, adapter, base=str(tmp_path / "model"))
    loaded = load_weights(open_checkpoint(None, adapters=[str(adapter)]))  # which names its base
    inputs = asked(loaded.checkpoint.processor)
    expected = original.logits(inputs["pixel_values"], inputs["input_ids"], loaded.checkpoint.image_token_id)
    with torch.no_grad():
        found = loaded.model(**inputs).logits
        without = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")(**inputs).logits
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (without - expected).abs().max() > 0.01 * expected.abs().max()  # so that the LoRA is seen


def test_files_go_back_and_forth_unchanged(original: Original, fresh: FusedModel, tmp_path: Path) -> None:
    load_connector(fresh.model, original.folder / CONNECTOR_FILE)
    adapter_from_original(original.folder / LORA_FOLDER, fresh.model, tmp_path / "adapter", base="somewhere")
    (tmp_path / "again").mkdir()
    write_original(fresh.model, tmp_path / "again", adapter=tmp_path / "adapter")
    ours, theirs = (torch.load(f / CONNECTOR_FILE, weights_only=True) for f in (tmp_path / "again", original.folder))
    assert list(ours) == list(theirs) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    lora, expected = (load_file(f / LORA_FOLDER / WEIGHTS) for f in (tmp_path / "again", original.folder))
    assert lora.keys() == expected.keys() and all(torch.equal(lora[key], expected[key]) for key in expected)
    config, before = (json.loads((f / LORA_FOLDER / CONFIG).read_text()) for f in (tmp_path / "again", original.folder))
    assert sorted(config.pop("target_modules")) == sorted(before.pop("target_modules"))
    assert config == before


def test_what_ours_writes_the_original_reads(original: Original, fresh: FusedModel, tmp_path: Path) -> None:
    """An adapter of a fused model, with the connector trained beside it, through PEFT on the bare Qwen."""
    config = peft.LoraConfig(r=2, target_modules=lora_targets(mlp=True), modules_to_save=["multi_modal_projector"])
    wrapped = peft.get_peft_model(fresh.model, config)
    for name, parameter in wrapped.named_parameters():
        if parameter.requires_grad and "lora_A" not in name:
            nn.init.normal_(parameter, std=0.2)
    wrapped.save_pretrained(tmp_path / "adapter")
    inputs = asked(fresh.processor)
    with torch.no_grad():
        expected = wrapped.eval()(**inputs).logits
    plain = build(FusedParts(vision=original.vision, language=original.language, vision_layernorm=True)).model
    write_original(plain, tmp_path, adapter=tmp_path / "adapter")
    joint = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 32))
    joint.load_state_dict(torch.load(tmp_path / CONNECTOR_FILE, weights_only=True))
    base = Qwen2ForCausalLM.from_pretrained(original.language)
    decoder = peft.PeftModel.from_pretrained(base, str(tmp_path / LORA_FOLDER)).eval()
    read = Original(original.vision, original.language, tmp_path, original.tower, joint, decoder)
    found = read.logits(inputs["pixel_values"], inputs["input_ids"], plain.config.image_token_id)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


# What is refused


class Trap:
    """Its unpickling leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def in_zip(trace: Path, path: Path) -> None:
    torch.save({"0.weight": Trap(trace)}, path)


def as_pickle(trace: Path, path: Path) -> None:
    path.write_bytes(pickle.dumps(OrderedDict({"0.weight": Trap(trace)})))


@pytest.mark.parametrize("write", [in_zip, as_pickle])
def test_a_malicious_pickle_is_refused_and_not_executed(fresh: FusedModel, tmp_path: Path, write: Any) -> None:
    trace, path = tmp_path / "trace", tmp_path / CONNECTOR_FILE
    write(trace, path)
    with pytest.raises(ModelError, match="contains more than tensors, and was not executed") as caught:
        load_connector(fresh.model, path)
    assert not trace.exists() and "\n" not in str(caught.value)
    torch.load(path, weights_only=False) if write is in_zip else pickle.loads(path.read_bytes())
    assert trace.exists()  # so that it would have left one


def test_a_malicious_adapter_is_refused_too(original: Original, fresh: FusedModel, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_bytes((original.folder / LORA_FOLDER / CONFIG).read_bytes())
    in_zip(tmp_path / "trace", tmp_path / "adapter_model.bin")
    with pytest.raises(ModelError, match="was not executed"):
        adapter_from_original(tmp_path, fresh.model, tmp_path / "out", base="model")
    assert not (tmp_path / "trace").exists() and not (tmp_path / "out").exists()


def test_an_older_adapter_in_a_bin_file_is_read(original: Original, fresh: FusedModel, tmp_path: Path) -> None:
    lora = original.folder / LORA_FOLDER
    (tmp_path / CONFIG).write_bytes((lora / CONFIG).read_bytes())
    torch.save(load_file(lora / WEIGHTS), tmp_path / "adapter_model.bin")
    adapter_from_original(tmp_path, fresh.model, tmp_path / "out", base="model")
    adapter_from_original(lora, fresh.model, tmp_path / "expected", base="model")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (tmp_path / "expected" / WEIGHTS).read_bytes()


def connector_state(**changed: Any) -> dict[str, Any]:
    state = {"0.weight": torch.ones(32, 16), "0.bias": torch.ones(32)}
    state |= {"2.weight": torch.ones(32, 32), "2.bias": torch.ones(32)}
    return {key: value for key, value in {**state, **changed}.items() if value is not None}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (connector_state(**{"2.bias": None}), r"lacks 2\.bias: a connector's file has the keys 0\.weight"),
        (connector_state(**{"1.weight": torch.ones(2)}), r"holds 1\.weight"),
        (connector_state(**{"0.weight": torch.ones(32, 24)}), r"0\.weight in .* shape \(32, 24\).* needs \(32, 16\)"),
        (connector_state(**{"0.bias": torch.full((32,), torch.nan)}), r"0\.bias in .* not finite numbers"),
        (connector_state(**{"0.bias": torch.ones(32, dtype=torch.int64)}), "not finite numbers"),
        (connector_state(**{"0.bias": 3}), "is not a state dict"),
        ([torch.ones(2)], "is not a state dict"),
    ],
)
def test_a_connector_that_does_not_fit_is_refused_by_name(
    fresh: FusedModel, tmp_path: Path, state: Any, message: str
) -> None:
    torch.save(state, tmp_path / CONNECTOR_FILE)
    before = connector(fresh.model).linear_1.weight.clone()
    with pytest.raises(ModelError, match=message):
        load_connector(fresh.model, tmp_path / CONNECTOR_FILE)
    assert torch.equal(before, connector(fresh.model).linear_1.weight)


@pytest.mark.parametrize("content", [b"", b"no pickle", b"PK\x03\x04 no zip", b"\x80\x02}q\x00", b"\x80\x04."])
def test_bytes_that_are_no_connector_are_one_clear_error(fresh: FusedModel, tmp_path: Path, content: bytes) -> None:
    (tmp_path / CONNECTOR_FILE).write_bytes(content)
    with pytest.raises(ModelError, match=CONNECTOR_FILE):
        load_connector(fresh.model, tmp_path / CONNECTOR_FILE)


def test_damage_anywhere_in_a_connector_is_told_or_does_not_matter(fresh: FusedModel, tmp_path: Path) -> None:
    path = tmp_path / CONNECTOR_FILE
    torch.save(connector_state(), path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) > 4
    for end in range(0, len(whole), len(whole) // 23):
        path.write_bytes(whole[:end])
        with pytest.raises(ModelError, match=CONNECTOR_FILE):
            load_connector(fresh.model, path)
    with pytest.raises(ModelError, match="cannot be read"):
        load_connector(fresh.model, tmp_path / "not there.pth")


def changed_lora(original: Original, folder: Path, weights: dict[str, Any], **config: Any) -> Path:
    """A copy of the adapter with some settings changed, and some weights changed or (None) left out."""
    lora = original.folder / LORA_FOLDER
    settings = {**json.loads((lora / CONFIG).read_text()), **config}
    (folder / CONFIG).write_text(json.dumps(settings))
    tensors = {**load_file(lora / WEIGHTS), **weights}
    save_file({key: value for key, value in tensors.items() if value is not None}, folder / WEIGHTS)
    return folder


FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("weights", "config", "message"),
    [
        ({FIRST: None}, {}, r"lacks layers\.0\.self_attn\.q_proj\.lora_A: 1 of its weights"),
        ({FIRST: torch.ones(4, 31)}, {}, r"layers\.0\.self_attn\.q_proj\.lora_A in .* shape \(4, 31\).* \(4, 32\)"),
        ({}, {"r": 8}, r"shape \(4, 32\), the model needs \(8, 32\)"),
        ({FIRST.replace(".0.", ".6."): torch.ones(4, 32)}, {}, r"holds layers\.6\.self_attn\.q_proj\.lora_A"),
        ({}, {"target_modules": [*TARGETS, "up_proj"]}, r"lacks layers\.0\.mlp\.up_proj\.lora_A: 12 of"),
        (
            {"base_model.model.lm_head.lora_A.weight": torch.ones(4, 32)},
            {},
            "1 weights that are not part of a LoRA .*lm_head",
        ),
        ({}, {"base_model_name_or_path": "Qwen/Other"}, "trained on Qwen/Other, the language model is"),
        ({}, {"alpha_pattern": {"q_proj": 3}}, "alpha_pattern is not supported: the original"),
        ({}, {"peft_type": "LOHA"}, "LOHA is not supported"),
        ({}, {"r": None}, "not a configuration of a LoRA"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_by_name(
    original: Original, fresh: FusedModel, tmp_path: Path, weights: dict[str, Any], config: dict[str, Any], message: str
) -> None:
    lora = changed_lora(original, tmp_path, weights, **config)
    with pytest.raises(ModelError, match=message):
        adapter_from_original(lora, fresh.model, tmp_path / "out", base="model")
    assert not (tmp_path / "out").exists()


def test_an_adapter_of_other_modules_has_no_original(original: Original, fresh: FusedModel, tmp_path: Path) -> None:
    """One on the vision tower too, or on some layers alone: a list of names would say something else."""
    for name, targets in (("all", r".*\.q_proj"), ("some", r".*language_model\.layers\.[0-2]\.self_attn\.q_proj")):
        model = build(FusedParts(vision=original.vision, language=original.language)).model
        peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=targets)).save_pretrained(tmp_path / name)
    with pytest.raises(ModelError, match=r"weights that are not part of a LoRA .*vision_tower"):
        write_original(fresh.model, tmp_path, adapter=tmp_path / "all")
    with pytest.raises(ModelError, match=r"lacks layers\.3\.self_attn\.q_proj\.lora_A: 6 of"):
        write_original(fresh.model, tmp_path, adapter=tmp_path / "some")
    with pytest.raises(
        ModelError, match=r"no LoRA weights whose keys begin with base_model.model.model.language_model"
    ):
        write_original(fresh.model, tmp_path, adapter=original.folder / LORA_FOLDER)
    assert not (tmp_path / CONNECTOR_FILE).exists()


def test_a_model_with_tiles_has_no_original(original: Original, tmp_path: Path) -> None:
    tiles = build(FusedParts(vision=original.vision, language=original.language, tiles=2)).model
    with pytest.raises(ModelError, match="no place for the newline"):
        load_connector(tiles, original.folder / CONNECTOR_FILE)
    with pytest.raises(ModelError, match="no place for the newline"):
        adapter_from_original(original.folder / LORA_FOLDER, tiles, tmp_path / "out", base="model")
    with pytest.raises(ModelError, match="no place for the newline"):
        write_original(tiles, tmp_path)
